//! Questions about the posterior that slots and Perceivers end with, as losses: gradients in every weight
//! and in the inputs against finite differences.

use crate::common::differences::{check, functional, nodes};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use marginals::Error;
use marginals_burn::{
    BlockSlotAttention, BlockSlotAttentionConfig, LastPosterior, Perceiver, PerceiverConfig,
    SlotAttention, SlotAttentionConfig,
};

const BATCH: usize = 2;
const INPUTS: usize = 5;
const WIDTH: usize = 4;
const SLOTS: usize = 3;

/// A loss in everything that comes out.
fn loss((out, last): (Tensor<3>, LastPosterior)) -> Tensor<1> {
    let answers = last.ask(&["entropy", "query-mass", "mean"]).expect("they have gradients");
    let three = |name| functional(answers.get::<3>(name).expect("it was asked"));
    functional(out)
        + three("entropy")
        + three("query-mass") * 0.5
        + functional(answers.get::<4>("mean").expect("it was asked"))
}

/// A module, and what it is run on.
#[derive(Module, Debug)]
struct Whole<M: Module> {
    module: M,
    x: Param<Tensor<3>>,
    start: Param<Tensor<3>>,
}

fn whole<M: Module>(module: M, device: &Device) -> Whole<M> {
    let leaf = |shape| Param::from_tensor(nodes(shape, device));
    Whole { module, x: leaf([BATCH, INPUTS, WIDTH]), start: leaf([BATCH, SLOTS, WIDTH]) }
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    for (heads, bias) in [(1, false), (1, true), (2, true)] {
        let config = SlotAttentionConfig::new(WIDTH, WIDTH)
            .with_heads(heads)
            .with_bias(bias)
            .with_iterations(2);
        check(whole(config.init(&device)?, &device), |whole: &Whole<SlotAttention>| {
            let run = whole.module.forward_and_posterior(whole.x.val(), whole.start.val());
            loss(run.expect("sizes fit"))
        });
    }
    let config = BlockSlotAttentionConfig::new(WIDTH, WIDTH, 2, 3).with_iterations(2);
    check(whole(config.init(&device)?, &device), |whole: &Whole<BlockSlotAttention>| {
        let run = whole.module.forward_and_posterior(whole.x.val(), whole.start.val());
        loss(run.expect("sizes fit"))
    });
    let config = PerceiverConfig::new(WIDTH, SLOTS, WIDTH, 2)
        .with_cross_head_width(3)
        .with_latent_heads(2)
        .with_latent_head_width(3);
    check(whole(config.init(&device)?, &device), |whole: &Whole<Perceiver>| {
        let run = whole.module.forward_and_posterior(whole.x.val()).expect("sizes fit");
        loss((run.0 + whole.start.val(), run.1))
    });
    Ok(())
}

#[test]
fn what_has_no_gradient_is_refused_by_name() -> Result<(), Error> {
    let device = Device::flex();
    let module = SlotAttentionConfig::new(WIDTH, WIDTH).init(&device)?;
    let x = nodes([BATCH, INPUTS, WIDTH], &device).cast(burn::tensor::DType::F32);
    let (slots, last) = module.forward_and_posterior(x.clone(), module.start(BATCH, SLOTS, 1)?)?;
    let alone = module.forward(x, 1);
    assert_eq!(slots.dims(), [BATCH, SLOTS, WIDTH]);
    assert_eq!(alone?.dims(), [BATCH, 7, WIDTH]);
    assert!(matches!(last.ask(&["map"]), Err(Error::NotAnswerable { .. })));
    Ok(())
}
