//! Files of settings: certificates, keys and policies.

use std::{
    fs::OpenOptions,
    io::{Error, Read, Result},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

/// The most bytes of a file.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads a regular file of at most [`MAX_FILE_BYTES`].
///
/// Other files can block for ever: a FIFO without a writer at its opening, a device at a read. The
/// length is tested first, so that no memory is used for a file that is too large.
///
/// # Errors
///
/// When the file is missing, cannot be read, is not a regular file, or is too large.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    // Regular files are read as without this flag.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Error::other("a directory, FIFO, socket or device is no file of settings"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // The file can grow meanwhile.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES { Err(too_large()) } else { Ok(content) }
}

fn too_large() -> Error {
    Error::other(format!("the file must have at most {MAX_FILE_BYTES} bytes"))
}
