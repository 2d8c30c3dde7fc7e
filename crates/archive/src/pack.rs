//! One file on its way into a zip: read, judged, compressed, in memory.

use std::io::{self, Read};
use std::path::Path;

use libdeflater::{CompressionLvl, Compressor};
use rawzip::CompressionMethod;

use crate::source::{Source, SourceKind, open};
use crate::{ArchiveError, Level, platform};

/// Files up to this size are compressed in memory (`dependencies.md` 9: two threads then stay below
/// 48 MB, input and output).
pub(crate) const SMALL: u64 = 4 << 20;

/// Content below this is compressed without asking whether it is worth it.
const JUDGED_FROM: usize = 4 << 10;

/// How content is packed.
#[derive(Clone, Copy)]
pub(crate) enum Method {
    Store,
    Deflate(u8),
    Zstd(i32),
}

impl Method {
    pub(crate) fn new(zstd: bool, level: Level) -> Self {
        if zstd {
            Self::Zstd(level.zip_zstd())
        } else {
            level.deflate().map_or(Self::Store, Self::Deflate)
        }
    }
}

/// What a packer made of one path.
pub(crate) enum Packed {
    /// A socket, pipe or device.
    Skipped,
    Directory(Source),
    /// Content that is complete and packed.
    Entry {
        source: Source,
        method: CompressionMethod,
        content: Vec<u8>,
        crc: u32,
        size: u64,
    },
    /// Too big for the memory.
    Stream(Source),
}

impl Packed {
    fn stored(source: Source, content: Vec<u8>) -> Self {
        Self::Entry {
            source,
            method: CompressionMethod::STORE,
            crc: crc32fast::hash(&content),
            size: content.len() as u64,
            content,
        }
    }

    /// Bytes it keeps in memory.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Entry { content, .. } => content.len() as u64,
            _ => 0,
        }
    }
}

/// Packs small files; buffers and codec state are kept between them.
pub(crate) struct Packer {
    method: Method,
    deflate: Option<Compressor>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Judges content that may not be worth compressing.
    scout: Option<zstd::bulk::Compressor<'static>>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Packer {
    pub(crate) fn new(method: Method) -> Result<Self, ArchiveError> {
        let (mut deflate, mut zstd, mut scout) = (None, None, None);
        match method {
            Method::Store => {}
            Method::Deflate(level) => {
                let level = CompressionLvl::new(i32::from(level)).unwrap_or_default();
                deflate = Some(Compressor::new(level));
                scout = Some(compressor(SCOUT_LEVEL)?);
            }
            Method::Zstd(level) => zstd = Some(compressor(level)?),
        }
        Ok(Self {
            method,
            deflate,
            zstd,
            scout,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    pub(crate) fn pack(&mut self, root: &Path, path: &Path) -> Result<Packed, ArchiveError> {
        let Some(source) = Source::look(root, path)? else {
            return Ok(Packed::Skipped);
        };
        match source.kind {
            SourceKind::Directory => return Ok(Packed::Directory(source)),
            SourceKind::Link => {
                let content = platform::to_name(source.target(root)?.as_os_str()).into_owned();
                return Ok(Packed::stored(source, content));
            }
            SourceKind::File if source.size > SMALL => return Ok(Packed::Stream(source)),
            SourceKind::File => {}
        }
        self.read(root, &source)?;
        if self.input.len() as u64 > SMALL {
            return Ok(Packed::Stream(source));
        }
        let Some(method) = self.compress()? else {
            return Ok(Packed::stored(source, std::mem::take(&mut self.input)));
        };
        Ok(Packed::Entry {
            source,
            method,
            content: self.output.clone(),
            crc: crc32fast::hash(&self.input),
            size: self.input.len() as u64,
        })
    }

    /// Reads a file that was small when it was looked at; at most one byte more than [`SMALL`].
    fn read(&mut self, root: &Path, source: &Source) -> Result<(), ArchiveError> {
        let mut file = open(root, &source.path)?;
        let mut length = 0;
        // One byte more than there was shows a file that grew, and that one has ended, in one call.
        let mut room = source.size as usize + 1;
        loop {
            self.input.resize(room, 0);
            match file.read(&mut self.input[length..]) {
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ArchiveError::io(root.join(&source.path))(error)),
            }
            if length < room || length as u64 > SMALL {
                self.input.truncate(length);
                return Ok(());
            }
            room = SMALL as usize + 1;
        }
    }

    /// Compresses the input into the output; `None` when that does not make it smaller.
    fn compress(&mut self) -> Result<Option<CompressionMethod>, ArchiveError> {
        let Self { input, output, .. } = self;
        let failed = |error: String| ArchiveError::Output(io::Error::other(error));
        let method = match self.method {
            _ if input.is_empty() => return Ok(None),
            Method::Store => return Ok(None),
            Method::Deflate(_) => {
                let (Some(deflate), Some(scout)) = (&mut self.deflate, &mut self.scout) else {
                    return Ok(None);
                };
                if is_noise(scout, input, output) {
                    return Ok(None);
                }
                output.resize(deflate.deflate_compress_bound(input.len()), 0);
                let length = deflate
                    .deflate_compress(input, output)
                    .map_err(|error| failed(error.to_string()))?;
                output.truncate(length);
                CompressionMethod::DEFLATE
            }
            Method::Zstd(_) => {
                let Some(zstd) = &mut self.zstd else {
                    return Ok(None);
                };
                output.clear();
                output.reserve(zstd::zstd_safe::compress_bound(input.len()));
                zstd.compress_to_buffer(input.as_slice(), output)
                    .map_err(ArchiveError::Output)?;
                CompressionMethod::ZSTD
            }
        };
        Ok((output.len() < input.len()).then_some(method))
    }
}

fn compressor(level: i32) -> Result<zstd::bulk::Compressor<'static>, ArchiveError> {
    zstd::bulk::Compressor::new(level).map_err(ArchiveError::Output)
}

/// Zstandard's fastest levels pass over what does not repeat at gigabytes a second.
const SCOUT_LEVEL: i32 = -5;

/// Whether deflate would be wasted on content: no byte is more frequent than others, and nothing repeats.
/// Deflate finds that out too, at a tenth of the speed.
fn is_noise(
    scout: &mut zstd::bulk::Compressor<'static>,
    content: &[u8],
    scratch: &mut Vec<u8>,
) -> bool {
    if content.len() < JUDGED_FROM || !is_even(content) {
        return false;
    }
    scratch.clear();
    scratch.reserve(zstd::zstd_safe::compress_bound(content.len()));
    scout
        .compress_to_buffer(content, scratch)
        .is_ok_and(|length| length >= content.len() - content.len() / 64)
}

/// Whether all bytes are about as frequent: then only repetitions could be packed.
fn is_even(content: &[u8]) -> bool {
    // Two tables: the processor does not wait for its own last addition.
    let mut counts = [[0u32; 256]; 2];
    let (pairs, rest) = content.as_chunks::<2>();
    for [first, second] in pairs {
        counts[0][usize::from(*first)] += 1;
        counts[1][usize::from(*second)] += 1;
    }
    for byte in rest {
        counts[0][usize::from(*byte)] += 1;
    }
    // Chi-squared against an even distribution: 255 is expected of noise, text has hundreds of times that.
    let expected = content.len() as f64 / 256.0;
    let spread: f64 = (0..256)
        .map(|byte| {
            let difference = f64::from(counts[0][byte] + counts[1][byte]) - expected;
            difference * difference / expected
        })
        .sum();
    // With a spread of a twentieth of the length a byte holds half a per cent less than eight bits.
    spread < 512.0 + content.len() as f64 / 20.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(length)
        .collect()
    }

    #[test]
    fn only_noise_is_not_worth_compressing() {
        let mut scout = compressor(SCOUT_LEVEL).expect("a compressor");
        let mut judge = |content: &[u8]| is_noise(&mut scout, content, &mut Vec::new());
        assert!(judge(&noise(30_000)));
        assert!(judge(&noise(1 << 20)));
        assert!(!judge(&noise(1000)), "too short to tell");
        // Even, but it repeats, near or far.
        assert!(!judge(&noise(5000).repeat(6)));
        assert!(!judge(&noise(20_000).repeat(2)));
        assert!(!judge(&(0..=255).collect::<Vec<u8>>().repeat(100)));
        // Text with few letters, hexadecimal noise.
        assert!(!judge("all work and no play ".repeat(1000).as_bytes()));
        let hexadecimal: Vec<u8> = noise(30_000)
            .iter()
            .map(|byte| b"0123456789abcdef"[usize::from(byte & 15)])
            .collect();
        assert!(!judge(&hexadecimal));
        // A tenth of text in noise.
        let mut mixed = noise(27_000);
        mixed.extend_from_slice("text ".repeat(600).as_bytes());
        assert!(!judge(&mixed));
    }
}
