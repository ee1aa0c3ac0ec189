//! Files of other kinds that people have tensors in, and what makes safetensors of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes at its beginning that tell what a file is.
const TELLING: usize = 512;

/// A kind of file that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// PyTorch's, of today or of before 1.6.
    PyTorch,
    /// One array of NumPy's.
    Numpy,
    /// Several.
    NumpyArchive,
    Hdf5,
    Gguf,
    Pickle,
    /// Pointer in place of a large file in a repository that was cloned without them.
    Pointer,
}

/// Kind of a file, and how it becomes a safetensors file called `to`, where its beginning is that of another
/// kind.
pub fn advice(path: &Path, beginning: &[u8], to: &str) -> Option<String> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Some(match kind(beginning)? {
        Kind::PyTorch => format!(
            "it is a file of PyTorch's, and safetensors are read. Beside it, `python -c \"import torch; from \
             safetensors.torch import save_file; t = torch.load('{name}', map_location='cpu', \
             weights_only=True); save_file({{n: x.clone() for n, x in t.items()}}, '{to}')\"` converts a \
             dictionary of tensors"
        ),
        Kind::Numpy => format!(
            "it is one array of NumPy's, and safetensors are read, which hold named tensors. Beside it, `python -c \
             \"import numpy; from safetensors.numpy import save_file; save_file({{'NAME': \
             numpy.load('{name}')}}, '{to}')\"` makes one; give it every tensor by its name"
        ),
        Kind::NumpyArchive => format!(
            "it is an archive of NumPy's, and safetensors are read. Beside it, `python -c \"import numpy; from \
             safetensors.numpy import save_file; save_file(dict(numpy.load('{name}')), '{to}')\"` converts it"
        ),
        Kind::Hdf5 => {
            "it is an HDF5 file, and safetensors are read; write its tensors again with `save_file` of the \
             Python package `safetensors`"
                .to_owned()
        }
        Kind::Gguf => {
            "it is a GGUF file, which `marginals audit` reads, and safetensors are read here".to_owned()
        }
        Kind::Pickle => {
            "it is a pickle of Python's, which could run code when it is read; write its tensors again with \
             `save_file` of the Python package `safetensors`"
                .to_owned()
        }
        Kind::Pointer => "it is the pointer that stands for a large file in a repository which was cloned \
                          without them; bring the file itself with `git lfs pull`"
            .to_owned(),
    })
}

/// Advice on a file, the safetensors file being called as this one is.
pub fn advice_beside(path: &Path, beginning: &[u8]) -> Option<String> {
    let to = path.with_extension("safetensors");
    // Not in place of itself, whatever it is called.
    let to = if to == path { path.with_extension("converted.safetensors") } else { to };
    advice(path, beginning, &to.file_name()?.to_string_lossy())
}

/// Advice on the file at `path`; `None` where it cannot be read.
pub fn advice_of_file(path: &Path) -> Option<String> {
    // Reading a pipe would take away what is to come.
    if !path.is_file() {
        return None;
    }
    let mut beginning = Vec::new();
    File::open(path).ok()?.take(TELLING as u64).read_to_end(&mut beginning).ok()?;
    advice_beside(path, &beginning)
}

fn kind(beginning: &[u8]) -> Option<Kind> {
    let holds = |text: &[u8]| {
        let beginning = &beginning[..beginning.len().min(TELLING)];
        beginning.windows(text.len()).any(|part| part == text)
    };
    let starts: [(&[u8], Kind); 5] = [
        (b"\x93NUMPY", Kind::Numpy),
        (b"\x89HDF\r\n", Kind::Hdf5),
        (b"GGUF", Kind::Gguf),
        (b"version https://git-lfs", Kind::Pointer),
        // The number that PyTorch put first before it took to archives.
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9\x20j\xa8P\x19.", Kind::PyTorch),
    ];
    if let Some((_, kind)) = starts.into_iter().find(|(start, _)| beginning.starts_with(start)) {
        return Some(kind);
    }
    // Archives begin with the name of their first file.
    match beginning {
        [b'P', b'K', 3, 4, ..] => {
            let is_of_pytorch =
                holds(b"data.pkl") || holds(b"/byteorder") || holds(b".format_version");
            let archive = holds(b".npy").then_some(Kind::NumpyArchive);
            if is_of_pytorch { Some(Kind::PyTorch) } else { archive }
        }
        // The beginnings of protocols 2 to 5; a safetensors file that begins so would have a header of
        // 640 bytes to the byte.
        [0x80, 2..=5, next, ..] if *next != 0 => Some(Kind::Pickle),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beginnings of files as `torch.save`, `numpy.save`, `numpy.savez` and `pickle.dump` write them.
    #[test]
    fn files_are_known_by_their_beginning() {
        let archive = |name: &str| [b"PK\x03\x04", &[0; 26][..], name.as_bytes(), b"more"].concat();
        for (beginning, expected) in [
            (archive("archive/data.pkl"), Some(Kind::PyTorch)),
            (archive("x/.format_version"), Some(Kind::PyTorch)),
            (archive("arr_0.npy"), Some(Kind::NumpyArchive)),
            (archive("word/document.xml"), None),
            (b"\x93NUMPY\x01\0v\0{'descr'".to_vec(), Some(Kind::Numpy)),
            (b"\x80\x04\x95\x0b\0\0".to_vec(), Some(Kind::Pickle)),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80".to_vec(), Some(Kind::PyTorch)),
            (b"\x80\x02\0\0\0\0\0\0{\"q\":".to_vec(), None),
            (b"GGUF\x03\0\0\0".to_vec(), Some(Kind::Gguf)),
            (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), Some(Kind::Pointer)),
            (Vec::new(), None),
        ] {
            assert_eq!(kind(&beginning), expected, "{}", String::from_utf8_lossy(&beginning));
        }
    }
}
