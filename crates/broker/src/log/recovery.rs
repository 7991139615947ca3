//! Opening a partition's log: walks the headers of all segments to rebuild the index and the
//! producers' state, checks the checksums near the end, and cuts off what is torn.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::producers::ProducerTable;
use super::segment::{HeaderWalk, Segment};
use super::{LogOptions, PartitionLog, START_FILE};
use crate::batch::{self, BatchHeader, Decision};

/// A kill can only tear the last append; this much of the tail is checked in full.
const CHECKED_TAIL_BYTES: u64 = 32 << 20;

impl PartitionLog {
    /// Opens the log in `dir`, which is made if it is missing.
    pub(crate) fn open(dir: &Path, options: LogOptions) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut bases = segment_bases(dir)?;
        let start = read_start(dir)?;
        if bases.is_empty() {
            bases.push(start.unwrap_or(0));
        }
        let mut producers = ProducerTable::default();
        let mut segments: Vec<Segment> = Vec::with_capacity(bases.len());
        for (i, base) in bases.iter().enumerate() {
            let mut segment = Segment::empty(dir, *base);
            let gap = segments
                .last()
                .map(|s| s.next_offset)
                .filter(|next| next != base);
            if let Some(expected) = gap {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "segment {} should start at offset {expected}",
                        segment.path.display()
                    ),
                ));
            }
            let last = i + 1 == bases.len();
            scan(&mut segment, &mut producers, last)?;
            segments.push(segment);
        }
        let active = segments.last().expect("at least one base was given");
        let active = Arc::new(active.open_for_append()?);
        let first = segments.first().map_or(0, |s| s.base_offset);
        let mut log = Self {
            dir: dir.to_path_buf(),
            options,
            active,
            reading: None,
            start: 0,
            producers,
            cursors: std::collections::VecDeque::new(),
            tail_dirty: false,
            deleted: false,
            segments,
        };
        log.start = start.unwrap_or(first).clamp(first, log.end());
        // A kill between moving the start and removing the files leaves some behind.
        log.remove_segments_before_start()?;
        Ok(log)
    }
}

fn segment_bases(dir: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let base = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|digits| digits.parse::<i64>().ok());
        bases.extend(base);
    }
    bases.sort_unstable();
    Ok(bases)
}

fn read_start(dir: &Path) -> io::Result<Option<i64>> {
    let path = dir.join(START_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<i64>() {
            Ok(start) if start >= 0 => Ok(Some(start)),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} holds {text:?}, not an offset", path.display()),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn scan(segment: &mut Segment, producers: &mut ProducerTable, last: bool) -> io::Result<()> {
    let file = segment.open_for_append()?;
    let size = file.metadata()?.len();
    let check_from = if last {
        size.saturating_sub(CHECKED_TAIL_BYTES)
    } else {
        size
    };
    let mut walk = HeaderWalk::new(&file, 0, size);
    while let Some((position, header)) = walk.next_header()? {
        let follows = header.base_offset == segment.next_offset && header.magic == 2;
        let check = header.is_control() || position >= check_from;
        if !follows || (check && !whole(&file, position, &header)?) {
            break;
        }
        let decision = if header.is_control() {
            decision_at(&file, position, &header)?
        } else {
            None
        };
        segment.note(&header);
        producers.note(&header, decision);
    }
    if segment.bytes < size {
        if !last {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "segment {} is damaged at byte {}",
                    segment.path.display(),
                    segment.bytes
                ),
            ));
        }
        tracing::warn!(
            event = "torn_tail_cut",
            path = %segment.path.display(),
            kept_bytes = segment.bytes,
            cut_bytes = size - segment.bytes,
        );
        file.set_len(segment.bytes)?;
    }
    Ok(())
}

fn read_batch(file: &File, position: u64, header: &BatchHeader) -> io::Result<Vec<u8>> {
    let mut batch = vec![0; header.bytes];
    file.read_exact_at(&mut batch, position)?;
    Ok(batch)
}

fn whole(file: &File, position: u64, header: &BatchHeader) -> io::Result<bool> {
    let batch = read_batch(file, position, header)?;
    Ok(batch::checksum_holds(header, &batch))
}

fn decision_at(file: &File, position: u64, header: &BatchHeader) -> io::Result<Option<Decision>> {
    Ok(batch::decision_of(&read_batch(file, position, header)?))
}
