//! The end of the last record of a cleanly stopped primary: who takes over must have flushed this much.
//!
//! The control file holds the *start* of the shutdown checkpoint record. Its length is the first field of the record
//! itself (`xl_tot_len` of `XLogRecord`, in the server's byte order), so no program and no knowledge of the record's
//! content is needed; `pg_waldump` shows the same. The end is computed as PostgreSQL does: the length rounded up to 8
//! bytes, plus the header of every page that the record runs into. It is what a walsender sent last, and so what a
//! standby that has everything reports as flushed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ha_core::Lsn;

use super::control_data::ControlData;
use super::error::Error;
use super::place::Place;

/// Header of the first page of a segment (`SizeOfXLogLongPHD`).
const LONG_HEADER: u64 = 40;
/// Header of every other page (`SizeOfXLogShortPHD`).
const SHORT_HEADER: u64 = 24;
/// Header of a record: no record is shorter (`SizeOfXLogRecord`).
const RECORD_HEADER: u32 = 24;
/// Far more than a checkpoint record ever has (114 bytes in PostgreSQL 14 to 18).
const LONGEST: u32 = 4096;

/// The end of the shutdown checkpoint record.
pub(crate) fn end_of_shutdown_checkpoint(place: &Place, control: &ControlData) -> Result<Lsn, Error> {
    let start = control.checkpoint.0;
    let path = place.data(&format!("pg_wal/{}", segment_name(control)));
    let mut bytes = [0; 4];
    File::open(&path)
        .and_then(|file| file.read_exact_at(&mut bytes, start % control.segment_size))
        .map_err(Error::file("read the last record of", &path))?;
    let length = u32::from_ne_bytes(bytes);
    if !(RECORD_HEADER..=LONGEST).contains(&length) {
        return Err(Error::State(format!(
            "the record at {} in {} claims {length} bytes",
            control.checkpoint,
            path.display()
        )));
    }
    Ok(end_of_record(control.checkpoint, length, control.page_size, control.segment_size))
}

/// Name of the segment file that holds the checkpoint.
fn segment_name(control: &ControlData) -> String {
    let segment = control.checkpoint.0 / control.segment_size;
    let per_id = 0x1_0000_0000 / control.segment_size;
    format!("{:08X}{:08X}{:08X}", control.timeline.0, segment / per_id, segment % per_id)
}

/// Where a record of `length` bytes ends that starts at `start`.
fn end_of_record(start: Lsn, length: u32, page: u64, segment: u64) -> Lsn {
    let mut left = u64::from(length).next_multiple_of(8);
    let mut at = start.0;
    loop {
        let room = page - at % page;
        if left <= room {
            return Lsn(at + left);
        }
        left -= room;
        at += room;
        at += if at.is_multiple_of(segment) { LONG_HEADER } else { SHORT_HEADER };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 8192;
    const SEGMENT: u64 = 16 << 20;

    #[test]
    fn a_record_within_a_page_ends_rounded_up() {
        assert_eq!(end_of_record(Lsn(0x0300_0060), 114, PAGE, SEGMENT), Lsn(0x0300_00D8));
    }

    #[test]
    fn a_record_that_fills_its_page_ends_at_the_boundary() {
        assert_eq!(end_of_record(Lsn(PAGE - 120), 114, PAGE, SEGMENT), Lsn(PAGE));
    }

    #[test]
    fn page_headers_on_the_way_are_skipped() {
        assert_eq!(end_of_record(Lsn(PAGE - 40), 114, PAGE, SEGMENT), Lsn(PAGE + SHORT_HEADER + 80));
        assert_eq!(end_of_record(Lsn(SEGMENT - 40), 114, PAGE, SEGMENT), Lsn(SEGMENT + LONG_HEADER + 80));
    }
}
