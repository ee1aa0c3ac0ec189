//! Audits of several texts: means, how far the texts agree, and folders of texts.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{audit, complaint, write_model};

const TEXTS: [&str; 3] = [
    "a single man in want of a wife",
    "the man the man the wife the wife in the man the man",
    "fortune fortune fortune of fortune in want of fortune",
];

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("tiny"));
        fs::create_dir(folder.path().join("texts")).unwrap();
        for (number, text) in TEXTS.iter().enumerate() {
            fs::write(folder.path().join(format!("texts/{number}.txt")), text).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn document(&self, texts: &[PathBuf], more: &[&str]) -> Value {
        let output = self.command(texts, more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&fs::read(self.path("out/audit.json")).unwrap()).unwrap()
    }

    fn command(&self, texts: &[PathBuf], more: &[&str]) -> assert_cmd::Command {
        let mut command = audit();
        command.arg(self.path("tiny")).args(texts).arg("--out").arg(self.path("out")).args(more);
        command
    }

    fn texts(&self) -> Vec<PathBuf> {
        (0..TEXTS.len()).map(|number| self.path(&format!("texts/{number}.txt"))).collect()
    }
}

fn number(head: &Value, name: &str) -> f64 {
    head[name].as_f64().unwrap_or(f64::NAN)
}

#[test]
fn several_texts_are_their_means_with_the_spread_over_them() {
    let scene = Scene::new();
    let together = scene.document(&scene.texts(), &[]);
    let alone: Vec<Value> =
        scene.texts().into_iter().map(|text| scene.document(&[text], &[])).collect();
    assert!(alone[0].get("texts").is_none());
    let sources: Vec<&Value> =
        together["texts"].as_array().unwrap().iter().map(|text| &text["source"]).collect();
    assert_eq!(sources, ["0.txt", "1.txt", "2.txt"]);
    assert_eq!(together["text"]["source"], "0.txt");
    let names: Vec<&str> = together["measures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|measure| measure["name"].as_str().unwrap())
        .collect();
    let mut stable = 0;
    for (at, head) in together["heads"].as_array().unwrap().iter().enumerate() {
        let own = |text: usize| &alone[text]["heads"][at];
        for name in &names {
            let values: Vec<f64> =
                (0..3).map(|text| number(own(text), name)).filter(|x| x.is_finite()).collect();
            for (text, of_text) in alone.iter().enumerate() {
                assert_eq!(head["by_text"][text][name], of_text["heads"][at][name], "{name}");
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let close = |found: f64, wanted: f64| {
                (found.is_nan() && wanted.is_nan()) || (found - wanted).abs() <= 2e-6 * wanted.abs()
            };
            // The effective number of keys is that of the mean entropy.
            let mean = if *name == "effective_keys" { number(head, "entropy").exp() } else { mean };
            assert!(close(number(head, name), mean), "{name}: {} {mean}", number(head, name));
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
            let deviation = match values.len() {
                0 | 1 => f64::NAN,
                count => (squares / (count as f64 - 1.0)).sqrt(),
            };
            let found = number(&head["deviations"], name);
            let near = (found - deviation).abs() <= 2e-6 * (mean.abs() + deviation);
            assert!(
                near || (found.is_nan() && !deviation.is_finite()),
                "{name} {found} {deviation}"
            );
        }
        let agreeing = (0..3).filter(|&text| own(text)["label"] == head["label"]).count();
        assert_eq!(head["agreeing_texts"], agreeing);
        stable += usize::from(agreeing == 3);
    }
    let counted: u64 = together["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|label| label["stable_heads"].as_u64().unwrap())
        .sum();
    assert_eq!(counted as usize, stable);
}

#[test]
fn a_folder_stands_for_its_texts_in_the_order_of_their_names() {
    let scene = Scene::new();
    fs::write(scene.path("texts/.hidden"), [0xff]).unwrap();
    let of_folder = scene.document(&[scene.path("texts")], &[]);
    assert_eq!(of_folder, scene.document(&scene.texts(), &[]));
}

#[test]
fn a_terminal_of_eighty_columns_holds_it_all() {
    let scene = Scene::new();
    for texts in [scene.texts(), vec![scene.path("texts/1.txt")]] {
        for more in [&[][..], &["--table"]] {
            let output = scene.command(&texts, more).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            for line in printed.lines().filter(|line| !line.contains("/out/")) {
                assert!(line.chars().count() <= 80, "{line}");
            }
            assert!(printed.contains("1.txt: 13 tokens"), "{printed}");
            assert_eq!(printed.contains("±"), texts.len() > 1 && !more.is_empty(), "{printed}");
        }
    }
}

#[track_caller]
fn refused(command: &mut assert_cmd::Command, out: &Path, words: &[&str]) {
    let message = complaint(command);
    for word in words {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
    assert!(!out.join("audit.json").exists());
}

#[test]
fn texts_that_cannot_be_read_are_named() {
    let scene = Scene::new();
    let out = scene.path("out");
    fs::create_dir(scene.path("none")).unwrap();
    refused(&mut scene.command(&[scene.path("none")], &[]), &out, &["none` holds no texts"]);
    write_model(&scene.path("second"));
    let told = ["second` is a model", "`--compare "];
    refused(&mut scene.command(&[scene.path("second")], &[]), &out, &told);
    refused(
        &mut scene.command(&["-".into(), "-".into()], &[]),
        &out,
        &["standard input", "2 times"],
    );
    fs::create_dir(scene.path("texts/more")).unwrap();
    refused(
        &mut scene.command(&[scene.path("texts")], &[]),
        &out,
        &["texts/more", "only files in it are read"],
    );
    fs::remove_dir(scene.path("texts/more")).unwrap();
    fs::write(scene.path("texts/3.txt"), " \n").unwrap();
    refused(&mut scene.command(&[scene.path("texts")], &[]), &out, &["the text is empty", "3.txt"]);
    fs::write(scene.path("texts/3.txt"), [0xff, 0xfe]).unwrap();
    refused(&mut scene.command(&[scene.path("texts")], &[]), &out, &["3.txt", "UTF-8"]);
}

#[test]
fn a_table_is_text() {
    let scene = Scene::new();
    let output = scene.command(&scene.texts(), &["--table", "--format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("'--table' cannot be used with '--format"), "{message}");
}
