//! Graph attention: gradients against finite differences, outputs and gradients against PyTorch
//! Geometric (tools/reference/graph_attention.py), the matrix written out, and what is refused.

use crate::common::differences::{Double, check, f64s, functional};
use crate::common::recorded::Case;
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData, activation};
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::{Combine, Graph, GraphAttention, GraphAttentionConfig, GraphAttentionKind};
use marginals_testkit::generate::Random;

const NODES: usize = 6;
/// In no order; node 5 hears nothing, node 3 itself alone.
const EDGES: [(usize, usize); 11] =
    [(4, 1), (0, 2), (2, 2), (1, 4), (3, 3), (1, 0), (5, 2), (3, 1), (0, 4), (5, 0), (4, 2)];

fn graph() -> Graph {
    Graph::new(NODES, &EDGES).expect("a graph")
}

fn draw<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = Random::new(seed).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F64))
}

/// GAT and GATv2, heads apart and averaged, weights shared and not.
fn configs() -> Vec<GraphAttentionConfig> {
    let config = || GraphAttentionConfig::new(4, 3).with_heads(2);
    let v2 = || config().with_kind(GraphAttentionKind::Gatv2);
    vec![
        config(),
        config().with_combine(Combine::Average).with_slope(0.05),
        config().with_bias(false),
        v2(),
        v2().with_combine(Combine::Average).with_bias(false),
        v2().with_share_weights(true),
    ]
}

/// In f64, with biases that are not 0.
fn layer(config: &GraphAttentionConfig, device: &Device) -> GraphAttention {
    let mut layer = config.init(device).expect("settings fit").map(&mut Double);
    let mut seed = 20;
    let maps = [Some(&mut layer.source), layer.target.as_mut()];
    let own = maps.into_iter().flatten().filter_map(|map| map.bias.as_mut());
    for bias in own.chain(layer.bias.as_mut()) {
        seed += 1;
        *bias = Param::from_tensor(draw(seed, bias.dims(), device));
    }
    layer
}

/// Everything that gradients flow to.
#[derive(Module, Debug)]
struct Whole {
    layer: GraphAttention,
    x: Param<Tensor<3>>,
    log_weights: Param<Tensor<1>>,
}

#[test]
fn gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    for config in configs() {
        let whole = Whole {
            layer: layer(&config, &device),
            x: Param::from_tensor(draw(1, [2, NODES, 4], &device)),
            log_weights: Param::from_tensor(draw(2, [EDGES.len()], &device)),
        };
        check(whole, |whole| {
            let (x, graph) = (whole.x.val(), graph());
            let graph = graph.with_log_weights(whole.log_weights.val()).expect("one per edge");
            let asked = ["entropy", "log-evidence"];
            let (y, answers) = whole.layer.ask(x.clone(), &graph, &asked).expect("sizes fit");
            let first = x.narrow(0, 0, 1).squeeze_dim(0);
            let p = whole.layer.edge_probabilities(first, &graph).expect("sizes fit");
            // A node without edges has no evidence; those before it do.
            let answer = |question| {
                let all = answers.get::<3>(question).expect("asked");
                functional(all.narrow(2, 0, NODES - 1))
            };
            functional(y) + functional(p) + answer(asked[0]) * 0.3 + answer(asked[1]) * 0.2
        });
    }
}

fn check_recorded(name: &str, slope: f64, combine: Combine) {
    let case = Case::open("graph_attention.safetensors", name);
    let weights = case.weights();
    let pairs = case.tensor::<2>("edges").into_data().try_into_vec::<f32>().expect("f32");
    let edges: Vec<_> = pairs.chunks(2).map(|edge| (edge[0] as usize, edge[1] as usize)).collect();
    let x = case.tensor::<2>("inputs.x").require_grad();
    let [nodes, inputs] = x.dims();
    let mut graph = Graph::new(nodes, &edges).expect("a graph");
    if name.ends_with("loops") {
        graph = graph.with_self_loops().0;
    }
    let [kind, a, source] = match weights.shape("att_dst") {
        Some(_) => ["gat", "att_dst", "lin"],
        None => ["gatv2", "att", "lin_l"],
    };
    let shape = weights.shape(a).expect("a vector per head");
    let config = GraphAttentionConfig::new(inputs, shape[2])
        .with_heads(shape[1])
        .with_kind(match kind {
            "gat" => GraphAttentionKind::Gat,
            _ => GraphAttentionKind::Gatv2,
        })
        .with_slope(slope)
        .with_combine(combine)
        .with_share_weights(name.ends_with("shared"));
    let mut layer = config.init(&case.device).expect("settings fit");
    let own = |name: &str| case.weights().shape(name).map(|_| format!("weights.{name}"));
    let load = |map: &mut burn::nn::Linear, name: &str| {
        let matrix = own(&format!("{name}.weight")).expect("a matrix");
        map.weight = Param::from_tensor(case.tensor::<2>(&matrix).transpose());
        let bias = own(&format!("{name}.bias"));
        map.bias = bias.map(|bias| Param::from_tensor(case.tensor(&bias)));
    };
    let vector = |name: &str| Param::from_tensor(case.tensor::<3>(name).squeeze_dim::<2>(0));
    load(&mut layer.source, source);
    if let Some(target) = &mut layer.target {
        load(target, "lin_r");
    }
    layer.a = vector(&format!("weights.{a}"));
    layer.a_source = layer.a_source.map(|_| vector("weights.att_src"));
    layer.bias = own("bias").map(|bias| Param::from_tensor(case.tensor(&bias)));

    let y = layer.forward(x.clone(), &graph).expect("sizes fit");
    let p = layer.edge_probabilities(x.clone(), &graph).expect("sizes fit");
    let both = Tensor::cat(vec![y.flatten::<1>(0, 1), p.flatten::<1>(0, 1)], 0);
    case.close("output", both.clone());
    let gradients = (both * case.tensor("upstream")).sum().backward();
    case.close("grad.x", x.grad(&gradients).expect("gradient of the nodes"));
    compare(&case, &layer, &gradients, [a, source]);
    case.report();
}

fn compare(case: &Case, layer: &GraphAttention, gradients: &Gradients, [a, source]: [&str; 2]) {
    let of = |name: &str, linear: &burn::nn::Linear| {
        let weight = linear.weight.val().grad(gradients).expect("the map takes part");
        case.close(&format!("grad.{name}.weight"), weight.transpose());
        if let Some(bias) = &linear.bias {
            let bias = bias.val().grad(gradients).expect("its bias takes part");
            case.close(&format!("grad.{name}.bias"), bias);
        }
    };
    of(source, &layer.source);
    if let Some(target) = &layer.target {
        of("lin_r", target);
    }
    let of_a = |a: &Param<Tensor<2>>| a.val().grad(gradients).expect("a takes part");
    case.close(&format!("grad.{a}"), of_a(&layer.a));
    if let Some(a_source) = &layer.a_source {
        case.close("grad.att_src", of_a(a_source));
    }
    if let Some(bias) = &layer.bias {
        case.close("grad.bias", bias.val().grad(gradients).expect("the bias takes part"));
    }
}

#[test]
fn gat_agrees_with_pytorch_geometric() {
    check_recorded("gat", 0.2, Combine::Concatenate);
    check_recorded("gat-average", 0.05, Combine::Average);
    check_recorded("gat-loops", 0.2, Combine::Concatenate);
}

#[test]
fn gatv2_agrees_with_pytorch_geometric() {
    check_recorded("gatv2", 0.2, Combine::Concatenate);
    check_recorded("gatv2-average", 0.2, Combine::Average);
    check_recorded("gatv2-shared", 0.2, Combine::Concatenate);
    check_recorded("gatv2-loops", 0.2, Combine::Concatenate);
}

#[track_caller]
fn close<const D: usize>(found: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(found.dims(), expected.dims());
    for (found, expected) in f64s(found).iter().zip(f64s(expected)) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

/// Weights of edges, which PyTorch Geometric's layers do not have, by the whole matrix: a softmax of
/// scores that are −∞ without an edge, for one node after the other.
#[test]
fn weighted_edges_are_those_of_the_matrix_written_out() {
    let device = Device::flex();
    let log_weights: Tensor<1> = draw(4, [EDGES.len()], &device);
    let weights = f64s(log_weights.clone());
    let graph = graph().with_log_weights(log_weights).expect("one per edge");
    let x: Tensor<2> = draw(3, [NODES, 4], &device);
    for config in configs() {
        let layer = layer(&config, &device);
        let y = layer.forward(x.clone(), &graph).expect("sizes fit");
        let p = layer.edge_probabilities(x.clone(), &graph).expect("sizes fit");
        let rows = |map: &burn::nn::Linear| map.forward(x.clone()).reshape([NODES, 2, 3]);
        let sources = rows(&layer.source);
        let targets = layer.target.as_ref().map_or_else(|| sources.clone(), rows);
        let dot = |a: &Param<Tensor<2>>, x: Tensor<2>| (a.val() * x).sum_dim(1);
        let at = |rows: &Tensor<3>, node: usize| rows.clone().narrow(0, node, 1).squeeze_dim(0);
        let mut expected_p = Tensor::<2>::zeros([EDGES.len(), 2], (&device, DType::F64));
        let mut means: Vec<Tensor<2>> = Vec::new();
        for node in 0..NODES {
            let incoming = (0..EDGES.len()).filter(|&edge| EDGES[edge].1 == node);
            let incoming: Vec<usize> = incoming.collect();
            let mut mean = Tensor::<2>::zeros([2, 3], (&device, DType::F64));
            if !incoming.is_empty() {
                let scores = incoming.iter().map(|&edge| {
                    let (i, j) = (at(&targets, node), at(&sources, EDGES[edge].0));
                    let potential = match &layer.a_source {
                        Some(a_source) => {
                            let sum = dot(&layer.a, i) + dot(a_source, j);
                            activation::leaky_relu(sum, config.slope)
                        }
                        None => dot(&layer.a, activation::leaky_relu(i + j, config.slope)),
                    };
                    potential + weights[edge]
                });
                let own = activation::softmax(Tensor::cat(scores.collect(), 1), 1);
                for (n, &edge) in incoming.iter().enumerate() {
                    let column = own.clone().narrow(1, n, 1);
                    mean = mean + at(&sources, EDGES[edge].0) * column.clone();
                    let row = edge..edge + 1;
                    expected_p = expected_p.slice_assign([row, 0..2], column.transpose());
                }
            }
            means.push(mean);
        }
        close(p, expected_p);
        let means: Tensor<3> = Tensor::stack(means, 0);
        let expected: Tensor<2> = match config.combine {
            Combine::Concatenate => means.reshape([NODES, 6]),
            Combine::Average => means.mean_dim(1).squeeze_dim(1),
        };
        let bias = layer.bias.as_ref().map(|bias| bias.val().unsqueeze());
        close(y, bias.map_or(expected.clone(), |bias| expected + bias));
    }
}

#[test]
fn the_order_of_edges_orders_their_probabilities_and_nothing_else() {
    let device = Device::flex();
    let order = [7, 2, 9, 0, 4, 10, 1, 8, 3, 6, 5];
    let shuffled: Vec<_> = order.iter().map(|&edge| EDGES[edge]).collect();
    let log_weights: Tensor<1> = draw(4, [EDGES.len()], &device);
    let x: Tensor<2> = draw(3, [NODES, 4], &device);
    let positions = Tensor::<1, burn::tensor::Int>::from_ints(order, &device);
    let here = graph().with_log_weights(log_weights.clone()).expect("one per edge");
    let there = Graph::new(NODES, &shuffled).expect("a graph");
    let there =
        there.with_log_weights(log_weights.select(0, positions.clone())).expect("one per edge");
    for config in configs() {
        let layer = layer(&config, &device);
        let of = |graph: &Graph| layer.forward(x.clone(), graph).expect("sizes fit");
        assert_eq!(f64s(of(&here)), f64s(of(&there)));
        let p = |graph: &Graph| layer.edge_probabilities(x.clone(), graph).expect("sizes fit");
        assert_eq!(f64s(p(&here).select(0, positions.clone())), f64s(p(&there)));
        let p = f64s(p(&here));
        for node in 0..NODES - 1 {
            for head in 0..2 {
                let sum: f64 = here.incoming(node).iter().map(|&edge| p[2 * edge + head]).sum();
                assert!((sum - 1.0).abs() < 1e-12, "node {node}: {sum}");
            }
        }
        assert!(here.incoming(NODES - 1).is_empty() && here.incoming(NODES).is_empty());
    }
}

#[test]
fn a_node_without_edges_hears_nothing_and_one_with_a_loop_itself() {
    let device = Device::flex().autodiff();
    for config in configs() {
        let layer = layer(&config.with_combine(Combine::Concatenate), &device);
        let x = draw(3, [NODES, 4], &device).require_grad();
        let y = layer.forward(x.clone(), &graph()).expect("sizes fit");
        let bias = match &layer.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([6], (&device, DType::F64)),
        };
        let row = |of: &Tensor<2>, node: usize| of.clone().narrow(0, node, 1).flatten::<1>(0, 1);
        assert_eq!(f64s(row(&y, 5)), f64s(bias.clone()));
        close(row(&y, 3), row(&layer.source.forward(x.clone()), 3) + bias);
        let p = layer.edge_probabilities(x.clone(), &graph()).expect("sizes fit");
        let gradients = (functional(y) + functional(p)).backward();
        let gradient = f64s(x.grad(&gradients).expect("a gradient"));
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    }
}

/// Node 5 speaks to others; without edges of its own its row is what they hear of it. A graph without
/// any edge leaves the bias.
#[test]
fn a_graph_may_have_no_edges() {
    let device = Device::flex().autodiff();
    let empty = Graph::new(3, &[]).expect("a graph");
    for config in configs() {
        let layer = layer(&config, &device);
        let x: Tensor<2> = draw(3, [3, 4], &device);
        let y = layer.forward(x.clone(), &empty).expect("sizes fit");
        let bias = layer.bias.as_ref().map_or(vec![0.0; config.width()], |bias| f64s(bias.val()));
        assert_eq!(f64s(y), bias.repeat(3));
        assert_eq!(layer.edge_probabilities(x.clone(), &empty).expect("sizes fit").dims(), [0, 2]);
        let weighted = empty.clone().with_log_weights(Tensor::zeros([0], (&device, DType::F64)));
        let (loops, numbers) = weighted.expect("none for none").with_self_loops();
        assert_eq!(numbers, [0, 1, 2]);
        let p = layer.edge_probabilities(x, &loops).expect("sizes fit");
        close(p, Tensor::ones([3, 2], (&device, DType::F64)));
    }
}

#[test]
fn self_loops_are_added_where_they_are_missing() {
    let (with_loops, numbers) = graph().with_self_loops();
    assert_eq!(with_loops.edges()[..EDGES.len()], EDGES);
    assert_eq!(with_loops.edges()[EDGES.len()..], [(0, 0), (1, 1), (4, 4), (5, 5)]);
    assert_eq!(numbers, [11, 12, 2, 4, 13, 14]);
    let (again, same) = with_loops.with_self_loops();
    assert_eq!((again.edges(), same), (with_loops.edges(), numbers));
    // A loop that is added has the weight 1.
    let device = Device::flex();
    let given: Tensor<1> = draw(4, [EDGES.len()], &device);
    let weighted = graph().with_log_weights(given.clone()).expect("one per edge");
    let (weighted, _) = weighted.with_self_loops();
    let found = f64s(weighted.log_weights().expect("weights").clone());
    assert_eq!(found, [f64s(given), vec![0.0; 4]].concat());
}

/// An edge of weight 0 is an edge that is not there, and the node hears nothing where all are.
#[test]
fn an_impossible_edge_is_none() {
    let device = Device::flex().autodiff();
    // Edge 5 of two into node 0, and both into node 1.
    let gone = [0, 5, 7];
    let mut log_weights = vec![0.0; EDGES.len()];
    gone.iter().for_each(|&edge| log_weights[edge] = f64::NEG_INFINITY);
    let log_weights =
        Tensor::<1>::from_data(TensorData::new(log_weights, [EDGES.len()]), (&device, DType::F64))
            .require_grad();
    let weighted = graph().with_log_weights(log_weights.clone()).expect("one per edge");
    let rest: Vec<_> = (0..EDGES.len()).filter(|edge| !gone.contains(edge)).collect();
    let fewer: Vec<_> = rest.iter().map(|&edge| EDGES[edge]).collect();
    let fewer = Graph::new(NODES, &fewer).expect("a graph");
    for config in configs() {
        let layer = layer(&config, &device);
        let x = draw(3, [NODES, 4], &device).require_grad();
        let y = layer.forward(x.clone(), &weighted).expect("sizes fit");
        close(y.clone(), layer.forward(x.clone(), &fewer).expect("sizes fit"));
        let p = layer.edge_probabilities(x.clone(), &weighted).expect("sizes fit");
        let of_fewer = layer.edge_probabilities(x.clone(), &fewer).expect("sizes fit");
        let (all, of_fewer) = (f64s(p.clone()), f64s(of_fewer));
        gone.iter().for_each(|&edge| assert_eq!(all[2 * edge..2 * edge + 2], [0.0, 0.0]));
        for (n, &edge) in rest.iter().enumerate() {
            for head in 0..2 {
                assert!((all[2 * edge + head] - of_fewer[2 * n + head]).abs() < 1e-12);
            }
        }
        let gradients = (functional(y) + functional(p)).backward();
        for gradient in [
            f64s(x.grad(&gradients).expect("a gradient")),
            f64s(log_weights.grad(&gradients).expect("a gradient")),
        ] {
            assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        }
    }
}

#[test]
fn what_makes_no_graph_and_no_module_is_refused_by_name() {
    let refused = |edges: &[(usize, usize)]| Graph::new(3, edges).expect_err("refused").to_string();
    let outside = refused(&[(0, 1), (3, 0)]);
    assert!(outside.contains("edges[1]") && outside.contains("3 → 0"), "{outside}");
    let twice = refused(&[(0, 1), (1, 0), (0, 1)]);
    assert!(twice.contains("0 → 1 as edges 0 and 2"), "{twice}");
    assert!(Graph::new(0, &[]).expect_err("refused").to_string().contains("nodes"));
    let device = Device::flex();
    let few = graph().with_log_weights(Tensor::zeros([3], &device)).expect_err("refused");
    assert!(few.to_string().contains("log_weights"), "{few}");

    let config = || GraphAttentionConfig::new(4, 3).with_heads(2);
    let of = |config: GraphAttentionConfig| config.init(&device).expect_err("refused").to_string();
    assert!(of(GraphAttentionConfig::new(0, 3)).contains("inputs"));
    assert!(of(GraphAttentionConfig::new(4, 0)).contains("outputs"));
    assert!(of(config().with_heads(0)).contains("heads"));
    assert!(of(config().with_slope(f64::NAN)).contains("slope"));
    assert!(of(config().with_share_weights(true)).contains("share_weights"));

    let layer = config().init(&device).expect("settings fit");
    for shape in [[NODES, 5], [NODES + 1, 4]] {
        let x = Tensor::<2>::zeros(shape, &device);
        assert!(
            layer.forward(x.clone(), &graph()).expect_err("refused").to_string().contains("`x`")
        );
        assert!(layer.edge_probabilities(x, &graph()).is_err());
    }
    let x = Tensor::<2>::zeros([NODES, 4], &device);
    for wrong in [f32::NAN, f32::INFINITY] {
        let weights = Tensor::<1>::full([EDGES.len()], wrong, &device);
        let graph = graph().with_log_weights(weights).expect("one per edge");
        let refused = layer.forward(x.clone(), &graph).expect_err("refused").to_string();
        assert!(refused.contains("adjacency.log-weights"), "{refused}");
        assert!(layer.edge_probabilities(x.clone(), &graph).is_err());
    }
}
