//! Outputs that are inputs: a result never takes the place of what it was made of.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::WriteError;

/// File that tells the folder of a run of `marginals train` from others.
pub const STATE: &str = "state.safetensors";

/// A file that a command reads.
#[derive(Clone, Debug)]
pub struct Input {
    /// Kind of thing it is, in messages: "the model", say.
    pub kind: &'static str,
    /// The file.
    pub path: PathBuf,
}

impl Input {
    /// A file that is read as `kind`.
    pub fn new(kind: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { kind, path: path.into() }
    }

    /// Every file in `folder` that is read as `kind`, or may be: all but the `outputs` that an earlier
    /// run left there.
    pub fn all_in(kind: &'static str, folder: &Path, outputs: &[PathBuf]) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let names: Vec<_> = outputs.iter().filter_map(|path| path.file_name()).collect();
        let own = entries.flatten().filter(|entry| !names.contains(&entry.file_name().as_os_str()));
        own.map(|entry| Self::new(kind, entry.path())).collect()
    }
}

/// Refuses outputs that are one of the inputs, by whatever name: links and hard links included.
///
/// # Errors
/// [`WriteError::IsInput`].
pub fn refuse_inputs(outputs: &[PathBuf], inputs: &[Input]) -> Result<(), WriteError> {
    for output in outputs {
        let Some(own) = Identity::of(output) else { continue };
        if let Some(input) =
            inputs.iter().find(|input| Identity::of(&input.path).as_ref() == Some(&own))
        {
            return Err(WriteError::IsInput {
                path: output.clone(),
                kind: input.kind,
                input: input.path.clone(),
            });
        }
    }
    Ok(())
}

/// Name of the page that several commands leave in their folder.
const REPORT: &str = "report.html";

/// Refuses to replace a `report.html` that is not the command's own: its reports lie beside `data`, which it
/// writes first.
///
/// # Errors
/// [`WriteError::NotOwn`].
pub fn refuse_report_of_others(folder: &Path, data: &str) -> Result<(), WriteError> {
    let path = folder.join(REPORT);
    if !path.is_file() || folder.join(data).exists() {
        return Ok(());
    }
    let reason = format!("another command's report is there: no `{data}` lies beside it");
    Err(WriteError::NotOwn { path, reason })
}

/// Refuses a folder in which a run of `marginals train` goes on, or went: its report is, or will be, there.
///
/// # Errors
/// [`WriteError::NotOwn`].
pub fn refuse_folder_of_run(folder: &Path) -> Result<(), WriteError> {
    if !folder.join(STATE).is_file() {
        return Ok(());
    }
    let reason = "the report of a run of `marginals train` has its place there".to_owned();
    Err(WriteError::NotOwn { path: folder.join(REPORT), reason })
}

/// A file itself, whatever it is called; pipes and devices are none.
#[derive(PartialEq, Eq)]
struct Identity {
    #[cfg(unix)]
    number: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Some(Self { number: (found.dev(), found.ino()) })
        }
        #[cfg(not(unix))]
        {
            let _ = found;
            Some(Self { path: path.canonicalize().ok()? })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_replaced_by_one_of_its_own_kind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let refuse = || refuse_report_of_others(folder.path(), "own.json");
        refuse().unwrap();
        fs::write(at("report.html"), b"x").unwrap();
        let error = refuse().unwrap_err().to_string();
        assert!(error.contains("report.html") && error.contains("no `own.json`"), "{error}");
        fs::write(at("own.json"), b"x").unwrap();
        refuse().unwrap();

        refuse_folder_of_run(folder.path()).unwrap();
        fs::write(at(STATE), b"x").unwrap();
        assert!(matches!(refuse_folder_of_run(folder.path()), Err(WriteError::NotOwn { .. })));
    }

    #[test]
    fn a_file_is_known_by_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in"), b"x").unwrap();
        fs::write(at("other"), b"x").unwrap();
        fs::create_dir(at("sub")).unwrap();
        fs::hard_link(at("in"), at("sub/hard")).unwrap();
        let mut names = vec![at("in"), at("sub/../in"), at("sub/hard")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("in", at("soft")).unwrap();
            names.push(at("soft"));
        }
        let inputs = [Input::new("the text", at("in"))];
        for name in names {
            let error = refuse_inputs(&[at("new"), name.clone()], &inputs).unwrap_err();
            assert!(matches!(&error, WriteError::IsInput { path, .. } if *path == name));
            assert!(error.to_string().contains("the text"), "{error}");
        }
        refuse_inputs(&[at("new"), at("other"), "/dev/null".into()], &inputs).unwrap();
        let device = [Input::new("the text", "/dev/null")];
        refuse_inputs(&["/dev/null".into()], &device).unwrap();

        let all = Input::all_in("the model", folder.path(), &["out/other".into()]);
        assert!(refuse_inputs(&[at("in")], &all).is_err());
        refuse_inputs(&[at("other")], &all).unwrap();
    }
}
