//! The audit from end to end: on a model small enough for any machine, and on fetched ones against
//! entropies from full attention matrices.

use std::fs;

use crate::common::{audit, complaint, workspace, write_model};
use serde_json::Value;

const TEXT: &str = "a single man in want of a wife <b> &";

/// Audits the small model and returns what was printed, the document and the report.
fn small(more: &[&str]) -> (String, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("tiny"));
    fs::write(folder.path().join("text.txt"), TEXT).unwrap();
    let out = folder.path().join("deep/out");
    let output = audit()
        .arg(folder.path().join("tiny"))
        .arg(folder.path().join("text.txt"))
        .arg("--out")
        .arg(&out)
        .args(more)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "", "a pipe sees no progress bar");
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let document = fs::read_to_string(out.join("audit.json")).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed = printed.replace(&folder.path().display().to_string(), "FOLDER");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    (printed, serde_json::from_str(&document).unwrap(), report)
}

#[test]
fn the_table_has_a_row_per_head_under_its_columns() {
    let (printed, _, _) = small(&["--threads", "1", "--table"]);
    assert!(printed.starts_with("tiny (bert): 2 layers of 2 heads\n  text.txt: 12 tokens\n"));
    let tables: Vec<&str> = printed.split("\nhead ").skip(1).collect();
    assert_eq!(tables.len(), 4);
    for table in &tables {
        let rows = table.lines().filter(|line| line.starts_with("0.") || line.starts_with("1."));
        assert_eq!(rows.count(), 4, "{table}");
    }
    let table = tables.iter().find(|table| table.contains("first")).unwrap();
    let table = format!("head {table}");
    let mut lines = table.lines();
    let header = lines.next().unwrap();
    // Every number ends in the column where its title does.
    let edges = |line: &str| -> Vec<usize> {
        let ends = |at: &usize| !line[*at..].starts_with(' ') && line[at + 1..].starts_with(' ');
        (4..line.len() - 1).filter(ends).collect()
    };
    for row in lines.filter(|line| line.starts_with("0.") || line.starts_with("1.")) {
        assert_eq!(edges(row), edges(header), "{header}\n{row}");
        assert_eq!(row.len(), header.len(), "{header}\n{row}");
    }
    assert!(
        printed
            .ends_with("Report: FOLDER/deep/out/report.html\nData:   FOLDER/deep/out/audit.json\n")
    );
}

#[test]
fn the_kinds_of_heads_come_first_with_the_clearest_of_each() {
    let (printed, document, _) = small(&[]);
    assert!(printed.starts_with("tiny (bert): 2 layers of 2 heads\n  text.txt: 12 tokens\n"));
    let counts = printed.split("\nlabel ").nth(1).unwrap().lines().skip(1);
    let mut counted = 0;
    for line in counts.take_while(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let count: usize = parts[1].parse().unwrap();
        counted += count;
        let of_label: Vec<(f64, String)> = document["heads"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|head| head["label"] == parts[0])
            .map(|head| {
                let margin = head["margin"].as_f64().unwrap();
                (margin, format!("{}.{} {margin:.2}", head["layer"], head["head"]))
            })
            .collect();
        assert_eq!(of_label.len(), count);
        let (_, clearest) = of_label.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        assert_eq!(format!("{} {}", parts[2], parts[3]), clearest);
    }
    assert_eq!(counted, 4);
}

#[test]
fn without_arguments_the_model_that_comes_with_the_program_reads_macbeth() {
    let folder = tempfile::tempdir().unwrap();
    let output = audit().current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("shakespeare (byte-lm)"));
    let document = fs::read_to_string(folder.path().join("audit/audit.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["text"]["source"], "the opening of Macbeth");
    let bytes = document["text"]["token_count"].as_f64().unwrap();
    let heads = document["heads"].as_array().unwrap();
    assert!(!heads.is_empty());
    for head in heads {
        let entropy = head["entropy"].as_f64().unwrap();
        assert!(entropy > 0.0 && entropy < bytes.ln(), "{head}");
    }
}

#[test]
fn the_document_has_its_documented_names() {
    let (_, mut document, _) = small(&[]);
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("tiny"));
    fs::write(folder.path().join("text.txt"), TEXT).unwrap();
    let [model, text] = ["tiny", "text.txt"].map(|name| folder.path().join(name));
    let output = audit()
        .arg(model)
        .args([&text, &text])
        .args(["--format", "json", "--out"])
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    let of_texts: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["of_several"] = of_texts;
    let schema = fs::read_to_string(workspace().join("docs/audit-schema.md")).unwrap();
    let mut missing = Vec::new();
    names(&document, &mut |name| {
        if name != "of_several" && !schema.contains(&format!("`{name}`")) {
            missing.push(name.to_owned());
        }
    });
    assert!(missing.is_empty(), "docs/audit-schema.md does not describe {missing:?}");
    assert_eq!(document["schema"], "marginals-audit");
    assert_eq!(document["version"], 1);
    assert_eq!(document["heads"].as_array().unwrap().len(), 4);
}

/// Calls `found` with the name of every field, at any depth.
fn names(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found(name);
                names(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

#[test]
fn measures_of_one_head_agree_with_each_other() {
    let (_, document, _) = small(&[]);
    let tokens = document["text"]["token_count"].as_f64().unwrap();
    for head in document["heads"].as_array().unwrap() {
        let measure = |name: &str| head[name].as_f64().unwrap();
        assert!((measure("effective_keys") - measure("entropy").exp()).abs() < 1e-4);
        // The prior of an encoder is uniform over all keys.
        assert!((measure("kl") - (tokens.ln() - measure("entropy"))).abs() < 1e-5);
        assert!(measure("distance_kl") <= measure("kl") + 1e-5);
        assert!(measure("content_kl") <= measure("distance_kl") + 1e-5);
        // The margin is the smallest distance of the rules up to the label's own.
        let labels = document["labels"].as_array().unwrap();
        let own = labels.iter().position(|label| label["name"] == head["label"]).unwrap();
        let distances: Vec<f64> = head["label_distances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|distance| distance.as_f64().unwrap_or(f64::NAN))
            .collect();
        assert!(!distances[..own].iter().any(|distance| *distance >= 0.0), "{head}");
        assert!(own + 1 == labels.len() || distances[own] >= 0.0, "{head}");
        let smallest = distances[..=own].iter().map(|x| x.abs()).fold(f64::NAN, f64::min);
        assert!((measure("margin") - smallest).abs() < 1e-6, "{head}");
        assert!(measure("heaviest_key_mass") >= measure("first_token_mass") - 1e-6);
        assert!(
            measure("neighbour_mass") >= measure("previous_token_mass") * (tokens - 1.0) / tokens
        );
        assert!(measure("neighbour_mass") <= 1.0 + 1e-6);
        let counted: u64 = head["entropy_share_histogram"]
            .as_array()
            .unwrap()
            .iter()
            .map(|count| count.as_u64().unwrap())
            .sum();
        assert_eq!(counted as f64, tokens);
    }
    // So few tokens that all keys of every query are kept.
    for query in document["queries"].as_array().unwrap() {
        for head in
            query["likeliest_keys"].as_array().unwrap().iter().flat_map(|l| l.as_array().unwrap())
        {
            let probabilities: Vec<f64> =
                head.as_array().unwrap().iter().map(|pair| pair[1].as_f64().unwrap()).collect();
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{probabilities:?}");
            assert!(probabilities.is_sorted_by(|a, b| a >= b));
        }
    }
}

#[test]
fn answers_do_not_depend_on_the_number_of_threads() {
    let (one, _, _) = small(&["--threads", "1", "--format", "json"]);
    let (three, _, _) = small(&["--threads", "3", "--format", "json"]);
    assert_eq!(one, three);
}

#[test]
fn json_on_standard_output_is_the_document() {
    let (printed, document, _) = small(&["--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), document);
}

#[test]
fn only_the_first_tokens_are_read() {
    let (_, document, report) = small(&["--tokens", "3", "--query", "1"]);
    assert_eq!(document["text"]["token_count"], 3);
    assert_eq!(document["text"]["token_count_of_whole_text"], 12);
    assert_eq!(document["text"]["text"], "a single man");
    assert!(report.contains(r#""token":1}"#));
    assert!(report.contains("the first 3 of 12 tokens"));
}

#[test]
fn the_report_needs_nothing_but_itself() {
    let (_, _, report) = small(&[]);
    // Names of a language, which nothing opens.
    let report = report.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
        assert!(!report.contains(outside), "it refers to `{outside}`");
    }
    // The text is data, never markup: nothing in it may end the script element it lies in.
    assert!(!report.contains("<b>\""));
    let data = report.split(r#"<script type="application/json" id="data">"#).nth(1).unwrap();
    let data = data.split("</script>").next().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let text: String = data["subjects"][0]["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|token| [token["before"].as_str().unwrap(), token["text"].as_str().unwrap()])
        .collect();
    assert_eq!(text, TEXT);
}

#[test]
fn two_models_read_one_text() {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("tiny"));
    fs::write(folder.path().join("text.txt"), TEXT).unwrap();
    let out = folder.path().join("out");
    let mut command = audit();
    command.arg(folder.path().join("tiny")).arg(folder.path().join("text.txt"));
    let other = folder.path().join("other");
    command.args(["--format", "json", "--out"]).arg(&out).arg("--compare").arg(&other);
    assert!(complaint(&mut command).contains("there is nothing at"));
    assert!(!out.exists());
    write_model(&other);

    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> =
        documents.iter().map(|one| one["model"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny", "other"]);
    for (name, document) in ["audit.json", "compared.json"].iter().zip(&documents) {
        let written = fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), *document);
    }
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("tiny, text.txt") && report.contains("other, text.txt"));
}

#[test]
fn entropies_of_real_models_are_those_of_the_full_matrices() {
    for (model, reference, tokens) in
        [("minilm", "minilm.json", 446), ("smollm2", "smollm2.json", 96)]
    {
        let folder = workspace().join("models").join(model);
        if !folder.exists() {
            eprintln!("SKIPPED: models/{model} is missing; run `cargo xtask fetch {model}`");
            continue;
        }
        let reference = workspace().join("crates/marginals-burn/tests/data").join(reference);
        let reference: Value =
            serde_json::from_str(&fs::read_to_string(reference).unwrap()).unwrap();
        let out = tempfile::tempdir().unwrap();
        let output = audit()
            .arg(&folder)
            .args(["--tokens", &tokens.to_string(), "--format", "json", "--out"])
            .arg(out.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut worst = (0.0, 0, 0);
        for head in document["heads"].as_array().unwrap() {
            let place = |name: &str| head[name].as_u64().unwrap() as usize;
            let (layer, index) = (place("layer"), place("head"));
            let expected = reference["bundled_mean_entropy"][layer][index].as_f64().unwrap();
            let difference = (head["entropy"].as_f64().unwrap() - expected).abs();
            if difference > worst.0 {
                worst = (difference, layer, index);
            }
        }
        eprintln!("{model}: worst entropy difference {worst:?} (nats, layer, head)");
        assert!(worst.0 < 1e-4, "{model}: {worst:?}");
    }
}

/// The terminal, the data and the report tell one worth of each head, and an encoder has none of it.
#[test]
fn effects_are_told_head_by_head() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let run = |out: &std::path::Path, more: &[&str]| {
        let arguments = ["shakespeare", "--tokens", "40", "--effects"];
        let output = audit().args(arguments).arg("--out").arg(out).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document = fs::read_to_string(out.join("audit.json")).unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            serde_json::from_str::<Value>(&document).unwrap(),
        )
    };
    let (printed, document) = run(&out, &["--draws", "3", "--window", "40"]);
    let effects = &document["effects"];
    assert_eq!(effects["predicted_tokens"], 39);
    assert_eq!(effects["predictions"].as_array().unwrap().len(), 40);
    let losses: Vec<f64> = (effects["predictions"].as_array().unwrap().iter())
        .filter_map(|prediction| prediction["loss"].as_f64())
        .collect();
    let loss = effects["loss"].as_f64().unwrap();
    assert!((losses.iter().sum::<f64>() / 39.0 - loss).abs() < 1e-6);
    let names: Vec<&str> = (effects["changes"].as_array().unwrap().iter())
        .map(|change| change["name"].as_str().unwrap())
        .collect();
    let mut best = (f64::MIN, String::new());
    for head in document["heads"].as_array().unwrap() {
        let own = head["effects"].as_object().unwrap();
        assert!(names.iter().all(|name| own[*name].is_f64()), "{own:?}");
        // A window of the whole text changes nothing.
        assert!(own["window"].as_f64().unwrap().abs() < 1e-5, "{own:?}");
        let worth = own["mean_output"].as_f64().unwrap();
        if worth > best.0 {
            best = (worth, format!("{}.{}", head["layer"], head["head"]));
        }
    }
    assert!(best.0 > 0.01, "{best:?}");
    let table = printed.split("effects on the loss").nth(1).unwrap();
    let row = table.lines().find(|line| line.starts_with(&best.1)).unwrap();
    assert!(row.contains(&format!("{:.4}", best.0)), "{row}");
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("What each head is worth") && report.contains("mean of 3 keys drawn"));
    let (_, again) = run(&folder.path().join("again"), &["--draws", "3", "--window", "40"]);
    assert_eq!(document["heads"], again["heads"], "a seed gives the same draws");

    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("tiny"));
    let complaint = complaint(audit().arg(folder.path().join("tiny")).arg("--effects"));
    assert!(
        complaint.contains("`--effects`") && complaint.contains("`tiny` (bert)"),
        "{complaint}"
    );
}
