//! A checkpoint that knows which of its tensors were read.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use super::Checkpoint;
use crate::error::ModelError;

/// Names that a refusal lists.
const LISTED: usize = 4;

/// A checkpoint that remembers the names of the tensors it was asked for, so that a loader can refuse those
/// it left behind: weights that a module has and its loader does not know would otherwise be passed over in
/// silence, and the answers be those of another module.
pub struct Asked<'file> {
    checkpoint: &'file dyn Checkpoint,
    read: RefCell<HashSet<String>>,
}

impl<'file> Asked<'file> {
    /// Nothing of `checkpoint` has been read yet.
    pub fn new(checkpoint: &'file dyn Checkpoint) -> Self {
        Self { checkpoint, read: RefCell::default() }
    }

    /// Names that were not read, in order.
    pub fn rest(&self) -> Vec<String> {
        let read = self.read.borrow();
        let mut rest: Vec<String> =
            self.checkpoint.names().into_iter().filter(|name| !read.contains(name)).collect();
        rest.sort_unstable();
        rest
    }

    /// Refuses tensors that were not read: those whose name begins as one of `own` does, but for those
    /// whose name ends as one of `harmless` does. `reader` is what has read the others.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], naming the first of them.
    pub fn refuse_rest(
        &self,
        reader: &str,
        own: &[&str],
        harmless: &[&str],
    ) -> Result<(), ModelError> {
        let mut rest = self.rest();
        rest.retain(|name| own.iter().any(|beginning| name.starts_with(beginning)));
        rest.retain(|name| !harmless.iter().any(|end| name.ends_with(end)));
        let Some(last) = rest.len().checked_sub(1) else { return Ok(()) };
        let listed: Vec<String> =
            rest.iter().take(LISTED).map(|name| format!("`{}`", self.stored_name(name))).collect();
        let more = match last + 1 - listed.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Err(ModelError::Unsupported {
            path: self.path().to_path_buf(),
            reason: format!(
                "it holds {}{more}, which {reader} as it is read here has not; without them it \
                 would be another model",
                listed.join(", ")
            ),
        })
    }
}

impl Checkpoint for Asked<'_> {
    fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    fn names(&self) -> Vec<String> {
        self.checkpoint.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.checkpoint.shape(name)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.read.borrow_mut().insert(name.to_owned());
        self.checkpoint.values(name)
    }

    fn stored_name(&self, name: &str) -> String {
        self.checkpoint.stored_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Five;

    impl Checkpoint for Five {
        fn path(&self) -> &Path {
            Path::new("five")
        }
        fn names(&self) -> Vec<String> {
            ["b.x", "a.y", "a.x", "a.ids", "c"].map(str::to_owned).into()
        }
        fn shape(&self, _: &str) -> Option<Vec<usize>> {
            Some(vec![1])
        }
        fn values(&self, _: &str) -> Result<Vec<f32>, ModelError> {
            Ok(vec![0.0])
        }
    }

    #[test]
    fn what_was_not_read_is_refused() {
        let asked = Asked::new(&Five);
        let refused = |own: &[&str], harmless: &[&str]| {
            asked.refuse_rest("a model", own, harmless).map_err(|error| error.to_string())
        };
        let all = refused(&[""], &[]).unwrap_err();
        assert!(all.contains("`a.ids`, `a.x`, `a.y`, `b.x` and 1 more, which a model"), "{all}");
        asked.tensor("a.x", &[1]).unwrap();
        // To have looked at a shape is not to have read.
        asked.shape("a.y");
        let own = refused(&["a."], &[".ids"]).unwrap_err();
        assert!(own.contains("holds `a.y`, which"), "{own}");
        asked.values("a.y").unwrap();
        assert_eq!(refused(&["a."], &["ids"]), Ok(()));
        assert_eq!(asked.rest(), ["a.ids", "b.x", "c"]);
    }
}
