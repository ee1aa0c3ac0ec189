//! Measures of the heads of real models against the same from full attention matrices, and their priors
//! of distance against SciPy's fits (`tools/reference/audit_measures.py`).

use std::fs;

use serde_json::Value;

use crate::common::{audit, workspace};

#[test]
fn measures_of_real_models_are_those_of_the_full_matrices() {
    let reference = workspace().join("crates/marginals-cli/tests/data/audit_measures.json");
    let reference: Value = serde_json::from_str(&fs::read_to_string(reference).unwrap()).unwrap();
    for (model, tokens) in [("minilm", 128), ("smollm2", 96)] {
        let folder = workspace().join("models").join(model);
        if !folder.exists() {
            eprintln!("SKIPPED: models/{model} is missing; run `cargo xtask fetch {model}`");
            continue;
        }
        let out = tempfile::tempdir().unwrap();
        let output = audit()
            .arg(&folder)
            .args(["--tokens", &tokens.to_string(), "--format", "json", "--out"])
            .arg(out.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (mut worst, mut priors) = ((0.0, String::new()), 0);
        for head in document["heads"].as_array().unwrap() {
            let place = |name: &str| head[name].as_u64().unwrap() as usize;
            let (layer, index) = (place("layer"), place("head"));
            let expected = &reference[model][layer][index];
            for (name, wanted) in expected.as_object().unwrap() {
                if name == "prior" || name == "theta" {
                    continue;
                }
                assert_eq!(head[name].is_null(), wanted.is_null(), "{layer}.{index} {name}");
                let (Some(found), Some(wanted)) = (head[name].as_f64(), wanted.as_f64()) else {
                    continue;
                };
                // Distances are tens of tokens; everything else is about 1.
                let difference = (found - wanted).abs() / wanted.abs().max(1.0);
                if difference > worst.0 {
                    worst = (difference, format!("{layer}.{index} {name}"));
                }
            }
            let Some(name) = expected["prior"].as_str() else { continue };
            let prior = &head["distance_prior"];
            assert_eq!(prior["name"], name, "{layer}.{index}");
            let number = |name: &str| prior[name].as_f64().unwrap();
            let theta = match name {
                "geometric" => -(1.0 - number("rho")).ln(),
                "power-law" => number("exponent"),
                _ => -number("outside").ln(),
            };
            let wanted = expected["theta"].as_f64().unwrap();
            assert!((theta - wanted).abs() < 1e-3 * wanted, "{layer}.{index} {theta} {wanted}");
            priors += 1;
        }
        eprintln!("{model}: worst difference {worst:?}; {priors} priors of distance alike");
        assert!(worst.0 < 1e-4, "{model}: {worst:?}");
        assert!(priors > 50, "{model}: {priors}");
    }
}
