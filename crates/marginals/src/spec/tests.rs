use super::*;
use crate::model::part::Entries;
use crate::potential::Dot;
use crate::prior::Causal;

/// One of every part, with and without its optional settings.
const EVERY_PART: &str = r#"
structure = { each-query-picks-at-most-one = { null = [0.5, -1.0] } }
prior = [
    "uniform", "causal", { window = { left = 3, right = 0 } }, "segments", "adjacency", "bias",
    { geometric = { rho = [0.1, 0.2] } }, { alibi = "standard" }, { alibi = { slopes = [0.5, 0.25] } },
    { laplace = { scale = 2.0 } }, { generalized-gaussian = { scale = 2.0, shape = [1.5, 3.0] } },
    { relative-buckets = { buckets = 8, max-distance = 20, bidirectional = true } },
    "key-bias", { beta-geometric = { alpha = 1.5, beta = 2.5 } }, "survival",
    { laplace = { scale = 2.0, distance = "survival" } },
]
potential = { dot = { scale = 0.125, softcap = 30.0 } }
value = "average"
query-offset = 7
inference = { truncated = { mass = 0.01, tile = 32 } }
"#;

#[test]
fn every_part_survives_toml_and_json() {
    let spec = ModelSpec::from_toml(EVERY_PART).unwrap();
    assert_eq!(spec.prior.len(), 16);
    assert_eq!(ModelSpec::from_toml(&spec.to_toml().unwrap()).unwrap(), spec);
    assert_eq!(ModelSpec::from_json(&spec.to_json().unwrap()).unwrap(), spec);

    for structure in ["each-query-picks-one", "each-key-picks-one", "independent"] {
        for potential in [
            "{ cosine = { scale = 10.0 } }",
            "{ gaussian = { precision = 2.0 } }",
            "{ gaussian = { precision = [[1.0, 2.0], [3.0, 4.0]] } }",
            "{ additive = { kind = \"gat\", slope = 0.2 } }",
            "{ additive = { kind = \"gatv2\" } }",
            "{ additive = { kind = \"bahdanau\" } }",
            "{ rotary = { base = 500.0, pairs = \"interleaved\", potential = { dot = {} } } }",
        ] {
            let text = format!("structure = \"{structure}\"\npotential = {potential}\n");
            let spec = ModelSpec::from_toml(&text).unwrap();
            assert_eq!(ModelSpec::from_toml(&spec.to_toml().unwrap()).unwrap(), spec, "{text}");
            assert_eq!(ModelSpec::from_json(&spec.to_json().unwrap()).unwrap(), spec, "{text}");
        }
    }
}

#[test]
fn shorthands_are_spelled_out() {
    let short =
        "structure = \"each-query-picks-at-most-one\"\nprior = \"alibi\"\npotential = \"dot\"";
    let long = "structure = { each-query-picks-at-most-one = { null = 0.0 } }\n\
                prior = [{ alibi = { standard = true } }]\npotential = { dot = {} }";
    assert_eq!(ModelSpec::from_toml(short).unwrap(), ModelSpec::from_toml(long).unwrap());
    let table = "structure = { independent = {} }\nprior = [{ causal = {} }]\npotential = \"dot\"";
    assert_eq!(ModelSpec::from_toml(table).unwrap().prior, [AnyPrior::from(Causal)]);
}

#[test]
fn wrong_names_are_told_with_the_nearest() {
    let nearest = |text: &str| match ModelSpec::from_toml(text) {
        Err(Error::UnknownName { nearest: Some(nearest), .. }) => nearest.into_string(),
        other => panic!("{text}: {other:?}"),
    };
    let base = "structure = \"independent\"\npotential = \"dot\"\n";
    let with = |rest: &str| nearest(&format!("{base}{rest}"));
    assert_eq!(with("prior = [\"casual\"]"), "causal");
    assert_eq!(with("prior = [{ geometric = { roh = 0.1 } }]"), "rho");
    assert_eq!(with("value = \"averge\""), "average");
    assert_eq!(with("query-ofset = 3"), "query-offset");
    assert_eq!(
        nearest("structure = \"each-query-pick-one\"\npotential = \"dot\""),
        "each-query-picks-one"
    );
    let potential = |text| nearest(&format!("structure = \"independent\"\npotential = {text}"));
    assert_eq!(potential("{ additive = { kind = \"gatv3\" } }"), "gatv2");
    assert_eq!(potential("{ rotary = { potential = \"dat\" } }"), "dot");
}

#[test]
fn what_is_missing_or_of_the_wrong_kind_is_told() {
    let base = "structure = \"independent\"\npotential = \"dot\"\n";
    for text in [
        "",
        "structure = 3\npotential = \"dot\"",
        "structure = \"independent\"",
        &format!("{base}prior = [{{ window = {{ left = -1, right = 0 }} }}]"),
        "structure = \"independent\"\npotential = \"cosine\"",
        "structure = \"independent",
    ] {
        assert!(ModelSpec::from_toml(text).is_err(), "{text}");
    }
    let spec = ModelSpec::from_toml(&format!("{base}prior = [\"bias\"]")).unwrap();
    let missing = spec.build::<f32>(1, 4, &Tensors::default()).err();
    assert!(matches!(missing, Some(Error::MissingTensor { name, .. }) if name == "bias"));
}

/// The error's whole text has to hold each of `words`.
fn told(text: &str, words: &[&str]) {
    let error = ModelFile::from_toml(text).expect_err(text).to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    assert!(!error.contains("untagged") && !error.contains("JSON"), "{error}");
}

#[test]
fn what_does_not_fit_is_told_with_its_key_and_the_forms_it_takes() {
    let prior = |prior: &str| {
        format!("structure = \"independent\"\npotential = \"dot\"\nprior = {prior}\n")
    };
    let potential =
        |potential: &str| format!("structure = \"independent\"\npotential = {potential}\n");
    told(
        &prior("[\"causal\", \"geometric\"]"),
        &["`prior[1].geometric.rho` is absent", "no default", "`{ geometric = { rho = 0.1 } }`"],
    );
    told(
        &prior("[{ geometric = { rho = \"x\" } }]"),
        &["`prior[0].geometric.rho` is \"x\"", "a number, or a list of one number per head"],
    );
    told(&prior("[{ geometric = { rho = [0.1, true] } }]"), &["geometric.rho` is [0.1,true]"]);
    told(&prior("[{ geometric = 0.1 }]"), &["`prior[0].geometric` is 0.1", "a table of settings"]);
    told(
        &prior("[{ alibi = { slopes = 0.5 } }]"),
        &["`prior[0].alibi.slopes` is 0.5, expected a list", "{ slopes = [0.5, 0.25] }"],
    );
    told(
        &prior("[{ window = { left = -1, right = 0 } }]"),
        &["`prior[0].window.left` is -1, expected a whole number of at least 0"],
    );
    told(
        &potential("{ gaussian = { precision = [1, 2, 3] } }"),
        &["`potential.gaussian.precision` is [1,2,3]", "diagonal", "`[[1.0, 2.0, 3.0]]`"],
    );
    told(
        &potential("{ rotary = { base = true, potential = \"dot\" } }"),
        &["`potential.rotary.base` is true, expected a number, as in TOML's `{ rotary"],
    );
    told(
        "structure = { walk = { weights = 1.0 } }\npotential = \"dot\"",
        &["`structure.walk.weights` is 1.0", "`[0.2, 0.8]`"],
    );
    // Settings of the engine stand beside those of the network.
    told(
        "mechanism = { hopfield = { beta = 1.0, steps = \"x\" } }",
        &["`mechanism.hopfield.steps` is \"x\"", "a whole number", "mechanism = { hopfield"],
    );
    told("mechanism = { k-means = {} }", &["`mechanism.k-means.components` is absent"]);
    let json = r#"{ "structure": "independent", "potential": { "dot": { "softcap": "x" } } }"#;
    let error = ModelSpec::from_json(json).unwrap_err().to_string();
    assert!(error.contains("`potential.dot.softcap` is \"x\", expected a number"), "{error}");
}

#[test]
fn numbers_that_are_not_finite_are_neither_read_nor_written() {
    for (potential, words) in [
        ("{ dot = { scale = nan } }", ["`potential.dot.scale` is NaN", "finite"]),
        ("{ dot = { scale = -inf } }", ["`potential.dot.scale` is -inf", "finite"]),
        ("{ dot = { softcap = inf } }", ["`potential.dot.softcap` is inf", "finite"]),
        ("{ dot = { scale = [1.0, nan] } }", ["`potential.dot.scale[1]` is NaN", "finite"]),
    ] {
        told(&format!("structure = \"independent\"\npotential = {potential}"), &words);
    }
    told(
        "mechanism = { hopfield = { beta = 1.0, energy-tolerance = nan } }",
        &["`mechanism.hopfield.energy-tolerance` is NaN"],
    );
    let mut spec =
        ModelSpec::from_toml("structure = \"independent\"\npotential = \"dot\"").unwrap();
    spec.potential = Dot::new(1.0).with_softcap(f64::NAN).into();
    for written in [spec.to_toml(), spec.to_json()] {
        let error = written.unwrap_err().to_string();
        assert!(error.contains("`potential.dot.softcap`") && error.contains("finite"), "{error}");
    }
}

/// Whatever the part, each tensor it documents is one that the model reads.
#[test]
fn a_part_reads_the_tensors_that_its_page_names() {
    for part in parts().filter(|part| !part.tensors.is_empty()) {
        let entry = |kind: &str, other: &str| match part.kind == kind {
            true => part.example.to_owned(),
            false => other.to_owned(),
        };
        let uniform = match part.kind {
            "distance" => format!("{{ laplace = {{ scale = 2.0, distance = {} }} }}", part.example),
            _ => "\"uniform\"".to_owned(),
        };
        let spec = ModelSpec::from_toml(&format!(
            "structure = {}\nprior = [{}]\npotential = {}",
            entry("structure", "\"independent\""),
            entry("prior", &uniform),
            entry("potential", "\"dot\"")
        ));
        let reads = spec.unwrap().reads();
        for tensor in part.tensors {
            let known = match tensor.entries {
                Entries::Real | Entries::NonPositive => &reads.real,
                Entries::Whole => &reads.whole,
            };
            assert!(known.iter().any(|own| own == tensor.name), "{tensor} not in {known:?}");
        }
        assert!(reads.parts.iter().any(|own| own == part.name), "{:?}", reads.parts);
    }
}

#[test]
fn mistaken_tensors_are_refused_and_unrelated_ones_left() {
    use ndarray::{ArrayD, IxDyn};

    let spec = ModelSpec::from_toml(
        "structure = \"independent\"\npotential = { rotary = { potential = \"dot\" } }\n\
         prior = [{ geometric = { rho = 0.1 } }, { window = { left = 2, right = 0 } }, \"segments\"]",
    );
    let reads = spec.unwrap().reads();
    let ask = |real: &str, whole: &str| {
        let mut tensors = Tensors::<f64>::default();
        tensors.real.insert(real.to_owned(), ArrayD::zeros(IxDyn(&[1])).into());
        tensors.integer.insert(whole.to_owned(), ArrayD::zeros(IxDyn(&[1])));
        reads.refuse_mistaken(&tensors)
    };
    for (real, whole) in [
        ("geometric.rho", "segments.q"),
        // Of another model that the file serves as well.
        ("laplace.scale", "adjacency.indptr"),
        ("v", "geometric"),
        ("rho", "layer.0.weight"),
    ] {
        assert_eq!(ask(real, whole), Ok(()), "{real} {whole}");
    }
    let nearest = |real, whole| match ask(real, whole) {
        Err(Error::UnknownName { name, nearest, .. }) => (name, nearest.map(String::from)),
        other => panic!("{other:?}"),
    };
    let rho = Some("geometric.rho".to_owned());
    assert_eq!(nearest("geometric.roh", "segments.q"), ("geometric.roh".to_owned(), rho));
    assert_eq!(nearest("window.left", "segments.q").0, "window.left");
    assert_eq!(nearest("rotary.base", "segments.q").0, "rotary.base");
    let keys = Some("segments.k".to_owned());
    assert_eq!(nearest("v", "segments.key"), ("segments.key".to_owned(), keys));
    assert!(
        matches!(ask("v", "geometric.rho"), Err(Error::Entries { name, .. }) if name == "geometric.rho")
    );
    assert!(
        matches!(ask("segments.q", "x"), Err(Error::Entries { name, .. }) if name == "segments.q")
    );
}

#[test]
fn every_part_has_an_example_that_reads() {
    let structure = "structure = \"independent\"\n";
    let potential = "potential = \"dot\"\n";
    for part in parts() {
        let entry = match part.kind {
            "prior" => format!("prior = [{}]\n", part.example),
            "distance" => format!(
                "prior = [{{ laplace = {{ scale = 2.0, distance = {} }} }}]\n",
                part.example
            ),
            kind => format!("{kind} = {}\n", part.example),
        };
        let rest = match part.kind {
            "structure" => potential.to_owned(),
            "potential" => structure.to_owned(),
            _ => format!("{structure}{potential}"),
        };
        let spec = ModelSpec::from_toml(&format!("{entry}{rest}"));
        let spec = spec.unwrap_or_else(|e| panic!("{}: {e}", part.name));
        // The usual distance goes without saying.
        let written = spec.to_toml().unwrap();
        assert!(written.contains(part.name) || part.name == "index", "{}", part.name);
        assert_eq!(ModelSpec::from_toml(&written).unwrap(), spec, "{}", part.name);
    }
}

#[test]
fn mechanisms_survive_toml_and_json() {
    for text in [
        "mechanism = { hopfield = { beta = [8.0, 2.0], steps = 3, tolerance = 0.0, memory = 4, \
         energy-tolerance = 1e-9, differentiation = \"one-step\", prior = \"causal\", \
         update = { backtracking = { step = 0.5 } } } }",
        "mechanism = { hopfield = { beta = 1.0 } }",
        "mechanism = { expanding = {} }",
        "mechanism = { expanding = { alpha = 2.0, beta = [1.0, 3.0], lost = 1e-3, first-keys = 8, \
         query-offset = -2, potential = { cosine = { scale = 3.0 } }, \
         inference = { mean-field = { steps = 9, differentiation = \"unrolled\" } } } }",
        "mechanism = { expanding = { inference = \"mean-field\" } }",
        "mechanism = { mixture = { components = 3, covariance = \"spherical\", seeding = \"points\" } }",
        "mechanism = { k-means = { components = 3, seed = 7 } }",
        "mechanism = { slots = { weights = \"w.safetensors\", slots = 5, heads = 2, head-width = 3 } }",
        "mechanism = { block-slots = { blocks = 4, epsilon = 0.0, seed = 3 } }",
        "mechanism = { perceiver = { latent-heads = 2 } }",
        "mechanism = \"slots\"",
        "structure = { walk = { hops = 1, weights = [[1.0, 2.0], [0.0, 1.0]], \
         step = { each-query-picks-at-most-one = {} } } }\npotential = \"dot\"",
    ] {
        let file = ModelFile::from_toml(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(ModelFile::from_toml(&file.to_toml().unwrap()).unwrap(), file, "{text}");
        assert_eq!(ModelFile::from_json(&file.to_json().unwrap()).unwrap(), file, "{text}");
    }
    let short = ModelFile::from_toml("mechanism = \"expanding\"").unwrap();
    assert_eq!(short, ModelFile::from_toml("mechanism = { expanding = {} }").unwrap());
}

/// Unknown settings are refused by the data itself too, where names were not checked before.
#[test]
fn mechanisms_deny_unknown_fields() {
    for text in [
        r#"{ "hopfield": { "beta": 1.0, "step": 3 } }"#,
        r#"{ "expanding": { "alhpa": 1.0 } }"#,
        r#"{ "expanding": { "inference": { "mean-field": { "stps": 1 } } } }"#,
        r#"{ "mixture": { "components": 2, "colour": 1 } }"#,
    ] {
        assert!(serde_json::from_str::<MechanismSpec>(text).is_err(), "{text}");
    }
}

#[test]
fn every_mechanism_is_reached_by_its_model_file() {
    for mechanism in crate::zoo::MECHANISMS {
        let file = ModelFile::from_toml(mechanism.model);
        let file = file.unwrap_or_else(|e| panic!("{}: {e}", mechanism.name));
        assert_eq!(ModelFile::from_toml(&file.to_toml().unwrap()).unwrap(), file);
    }
}

#[test]
fn tensors_stand_in_for_numbers_of_the_file() {
    use crate::prior::{Combine, Geometric};
    use crate::question::{Entropy, LogEvidence};
    use crate::structure::EachQueryPicksAtMostOne;
    use crate::{Model, spec::Domain};
    use ndarray::{Array4, arr1};

    let spec = ModelSpec::from_toml(
        "structure = { each-query-picks-at-most-one = { null = 0.5 } }\n\
         prior = [{ geometric = { rho = 0.1 } }, \"causal\", { geometric = { rho = 0.2 } }]\n\
         potential = { rotary = { potential = \"dot\" } }",
    )
    .unwrap();
    let numbers = spec.numbers(2, 4);
    let names: Vec<&str> = numbers.iter().map(|numbers| numbers.name.as_str()).collect();
    assert_eq!(names, ["null", "geometric.rho", "geometric.rho.2", "dot.scale"]);
    assert_eq!(numbers[1].domain, Domain::UnitInterval);
    assert_eq!(numbers[3].values, arr1(&[0.5]).into_dyn());

    let q = Array4::from_shape_fn((1, 2, 5, 4), |(_, h, i, d)| ((7 * h + 3 * i + d) as f64).sin());
    let ask = |tensors: &Tensors<'_, f64>| {
        let spec = ModelSpec { potential: Dot::default().into(), ..spec.clone() };
        let model = spec.build(2, 4, tensors).unwrap();
        model.posterior(q.view(), q.view()).unwrap().ask((Entropy, LogEvidence)).unwrap()
    };
    let mut tensors = Tensors::default();
    for (name, values) in [
        ("null", [0.3, -1.0]),
        ("geometric.rho", [0.4, 0.05]),
        ("geometric.rho.2", [0.0, 0.25]),
        ("dot.scale", [2.0, 0.1]),
    ] {
        tensors.real.insert(name.to_owned(), arr1(&values).into_dyn().into());
    }
    let prior =
        Geometric::per_head(&[0.4, 0.05]).and(Causal).and(Geometric::per_head(&[0.0, 0.25]));
    let structure = EachQueryPicksAtMostOne::per_head(&[0.3, -1.0]);
    let model = Model::new(structure, prior, Dot::per_head(&[2.0, 0.1]));
    let expected =
        model.posterior(q.view(), q.view()).unwrap().ask((Entropy, LogEvidence)).unwrap();
    assert_eq!(ask(&tensors), expected);
    assert_ne!(ask(&Tensors::default()), expected);
}

/// A part's settings are the fields that it is read into, and no list beside it.
#[test]
fn settings_are_the_fields_of_the_part() {
    let settings = |name: &str| parts().find(|part| part.name == name).unwrap().settings();
    assert_eq!(settings("generalized-gaussian"), ["scale", "shape", "distance"]);
    assert_eq!(
        settings("relative-buckets"),
        ["buckets", "max-distance", "bidirectional", "distance"]
    );
    assert_eq!(settings("rotary"), ["base", "pairs", "potential"]);
    assert_eq!(settings("additive"), ["kind", "slope"]);
    assert!(settings("causal").is_empty() && settings("bias").is_empty());
    for part in parts() {
        let mut names: Vec<&str> = part.tensors.iter().map(|tensor| tensor.name).collect();
        names.dedup();
        assert_eq!(names.len(), part.tensors.len(), "{}", part.name);
        assert!(!part.meaning.is_empty() && part.example.contains(part.name), "{}", part.name);
    }
}

/// Whatever a list of parts is read by, it is what was written.
#[test]
fn parts_are_read_by_any_reader() {
    let spec = ModelSpec::from_toml(EVERY_PART).unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ModelSpec>(&json).unwrap(), spec);
    assert_eq!(toml::from_str::<ModelSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    #[derive(Deserialize)]
    struct Around {
        #[serde(flatten)]
        model: ModelSpec,
    }
    assert_eq!(serde_json::from_str::<Around>(&json).unwrap().model, spec);
    assert!(json.contains(r#""causal""#) && json.contains(r#""alibi""#), "{json}");
    let alone = r#"{ "structure": "independent", "prior": "alibi", "potential": "dot" }"#;
    let in_words = r#"{ "structure": "independent", "prior": [{ "alibi": "standard" }],
                        "potential": { "dot": {} } }"#;
    let alone: ModelSpec = serde_json::from_str(alone).unwrap();
    assert_eq!(alone, serde_json::from_str(in_words).unwrap());
    assert_eq!(alone, ModelSpec::from_json(in_words).unwrap());
}

#[test]
fn what_is_not_known_is_called_what_it_is() {
    let kind = |text: &str| match ModelFile::from_toml(text) {
        Err(Error::UnknownName { kind, .. }) => kind,
        other => panic!("{text}: {other:?}"),
    };
    let base = "structure = \"independent\"\npotential = \"dot\"\n";
    let with = |rest: &str| kind(&format!("{base}{rest}"));
    assert_eq!(with("prior = \"casual\""), "prior");
    assert_eq!(with("prior = [\"causal\", { casual = {} }]"), "prior");
    assert_eq!(with("prior = { laplace = { scale = 1.0, distance = \"indx\" } }"), "distance");
    assert_eq!(with("prior = { laplace = { scal = 1.0 } }"), "setting");
    assert_eq!(with("prior = { laplace = \"scal\" }"), "setting");
    assert_eq!(with("valu = \"gather\""), "section");
    assert_eq!(with("value = \"gathr\""), "value");
    assert_eq!(kind("structure = \"independnt\"\npotential = \"dot\""), "structure");
    assert_eq!(kind("structure = { walk = { step = \"x\" } }\npotential = \"dot\""), "structure");
    let potential = |text: &str| kind(&format!("structure = \"independent\"\npotential = {text}"));
    assert_eq!(potential("\"dat\""), "potential");
    assert_eq!(potential("{ rotary = { potential = \"dat\" } }"), "potential");
    assert_eq!(potential("{ additive = { kind = \"gatv3\" } }"), "additive form");
    assert_eq!(
        potential("{ rotary = { pairs = \"thirds\", potential = \"dot\" } }"),
        "layout of pairs"
    );
    assert_eq!(kind("mechanism = \"hopfild\""), "mechanism");
    assert_eq!(kind("mechanism = { hopfield = { beta = 1.0, update = \"x\" } }"), "update");
    assert_eq!(kind("mechanism = { expanding = { potential = \"dat\" } }"), "potential");
    assert_eq!(kind("mechanism = { expanding = { inference = \"x\" } }"), "inference");
}

#[test]
fn names_alone_have_no_settings() {
    let base = "structure = \"independent\"\npotential = \"dot\"\n";
    told(&format!("{base}prior = \"geometric\""), &["`prior.geometric.rho` is absent"]);
    told(
        &format!("{base}prior = [{{ causal = {{ left = 1 }} }}]"),
        &["`prior[0].causal` is {\"left\":1}", "its name stands alone"],
    );
    told(
        &format!("{base}prior = [{{ geometric = {{ rho = 0.1 }}, causal = {{}} }}]"),
        &["`prior[0]` is", "one name with a table of settings"],
    );
    told("structure = \"independent\"", &["`potential` is absent"]);
    told(
        "mechanism = { hopfield = { beta = 1.0, update = \"descent\" } }",
        &["`mechanism.hopfield.update.descent.step` is absent"],
    );
    told("mechanism = \"hopfield\"", &["`mechanism.hopfield.beta` is absent"]);
}

/// Files that were written before a word changed are read as they were.
#[test]
fn older_words_are_read() {
    let rotary = |pairs: &str| {
        let potential = format!("{{ rotary = {{ pairs = \"{pairs}\", potential = \"dot\" }} }}");
        let file = format!("structure = \"independent\"\npotential = {potential}");
        ModelFile::from_toml(&file).expect("a model")
    };
    assert_eq!(rotary("halves"), rotary("half-split"));
    assert_eq!(rotary("neighbours"), rotary("interleaved"));
    assert_ne!(rotary("halves"), rotary("neighbours"));
}

#[test]
fn matchings_and_their_inference_survive_toml_and_json() {
    for (structure, inference) in [
        ("\"matching\"", "{ entropic = {} }"),
        ("{ matching = { mass = 3.5 } }", "{ entropic = { tolerance = 1e-8, steps = 50 } }"),
    ] {
        let text =
            format!("structure = {structure}\npotential = \"scores\"\ninference = {inference}\n");
        let spec = ModelSpec::from_toml(&text).unwrap();
        assert_eq!(ModelSpec::from_toml(&spec.to_toml().unwrap()).unwrap(), spec);
        assert_eq!(ModelSpec::from_json(&spec.to_json().unwrap()).unwrap(), spec);
    }
    let text = "structure = \"matching\"\npotential = \"scores\"\ninference = { entropic = { iterations = 3 } }\n";
    let told = ModelSpec::from_toml(text).unwrap_err().to_string();
    assert!(told.contains("iterations") && told.contains("steps"), "{told}");
}
