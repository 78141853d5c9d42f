//! Which part of a file is asked for (RFC 9110, sections 13 and 14). Pure, so that anything can be thrown at it.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderValue, header};

/// What to send of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// These bytes: at least one, none beyond the end.
    Bytes(Range<u64>),
    /// There is no such part.
    Nowhere,
}

/// What `Range` asks for of a file of `size` bytes. What is no range of bytes, or more than one, is not there to be
/// honoured: the whole file answers it as well.
pub(crate) fn part(range: &str, size: u64) -> Part {
    let Some((unit, range)) = range.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Part::Whole };
    let (first, last) = (number(first), number(last));
    let bytes = match (first, last) {
        (Number::Is(first), Number::Is(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Number::Is(first), Number::Absent) => first..size,
        (Number::Absent, Number::Is(last)) => size.saturating_sub(last)..size,
        _ => return Part::Whole,
    };
    if bytes.start < bytes.end { Part::Bytes(bytes) } else { Part::Nowhere }
}

enum Number {
    Absent,
    Is(u64),
    Wrong,
}

/// One that is too large for any file is the largest.
fn number(text: &str) -> Number {
    match text {
        "" => Number::Absent,
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Number::Is(text.parse().unwrap_or(u64::MAX))
        }
        _ => Number::Wrong,
    }
}

/// What to answer to somebody who may have the file, or a part of it, already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// That it has not changed.
    Unchanged,
    /// A part of it, or all.
    Part(Part),
}

/// Reads `If-None-Match`, `If-Range` and `Range` for a file of `size` bytes with that entity tag. Dates are never sure
/// enough: only the tag counts.
pub(crate) fn answer(headers: &HeaderMap, tag: Option<&HeaderValue>, size: u64) -> Answer {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let (Some(known), Some(tag)) = (text(header::IF_NONE_MATCH), tag)
        && known.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    {
        return Answer::Unchanged;
    }
    // A part of another file is no use.
    let is_of_another = headers.get(header::IF_RANGE).is_some_and(|known| Some(known) != tag);
    let mut ranges = headers.get_all(header::RANGE).iter();
    Answer::Part(match (ranges.next().map(HeaderValue::to_str), ranges.next()) {
        (Some(Ok(range)), None) if !is_of_another => part(range, size),
        _ => Part::Whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_standard_has_it() {
        let most = u64::MAX.to_string();
        for (range, size, expected) in [
            ("bytes=0-3", 10, Part::Bytes(0..4)),
            ("Bytes = 4-", 10, Part::Bytes(4..10)),
            ("bytes=4-100", 10, Part::Bytes(4..10)),
            ("bytes=9-9", 10, Part::Bytes(9..10)),
            ("bytes=-3", 10, Part::Bytes(7..10)),
            // A suffix longer than the file is the file.
            ("bytes=-100", 10, Part::Bytes(0..10)),
            ("bytes=0-99999999999999999999999999", 10, Part::Bytes(0..10)),
            (&format!("bytes=0-{most}"), 10, Part::Bytes(0..10)),
            ("bytes=10-", 10, Part::Nowhere),
            ("bytes=99999999999999999999999999-", 10, Part::Nowhere),
            ("bytes=-0", 10, Part::Nowhere),
            ("bytes=0-", 0, Part::Nowhere),
            ("bytes=-1", 0, Part::Nowhere),
        ] {
            assert_eq!(part(range, size), expected, "{range}");
        }
    }

    #[test]
    fn what_is_no_single_range_of_bytes_is_not_honoured() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "lines=1-2",
            "bytes 1-2",
            "bytes=１-2",
            "bytes=1 - 2",
        ] {
            assert_eq!(part(range, 10), Part::Whole, "{range}");
        }
    }

    fn asked(given: &[(&'static str, &'static str)]) -> Answer {
        let given = given
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let tag = HeaderValue::from_static("\"abc\"");
        // One after another: collecting would keep the last of each name.
        let mut headers = HeaderMap::new();
        given.for_each(|(name, value)| {
            headers.append(name, value);
        });
        answer(&headers, Some(&tag), 10)
    }

    #[test]
    fn a_client_that_has_the_file_gets_it_again_only_where_it_asks_for_another() {
        for known in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert_eq!(
                asked(&[("if-none-match", known), ("range", "bytes=0-1")]),
                Answer::Unchanged,
                "{known}"
            );
        }
        for other in ["\"abd\"", "abc", ""] {
            assert_eq!(asked(&[("if-none-match", other)]), Answer::Part(Part::Whole), "{other}");
        }
    }

    #[test]
    fn a_part_is_sent_only_of_the_file_that_the_client_has_a_part_of() {
        let range = ("range", "bytes=0-1");
        let some = Answer::Part(Part::Bytes(0..2));
        assert_eq!(asked(&[range]), some);
        assert_eq!(asked(&[range, ("if-range", "\"abc\"")]), some);
        for other in ["\"abd\"", "W/\"abc\"", "Tue, 24 Nov 2026 00:00:00 GMT"] {
            assert_eq!(asked(&[range, ("if-range", other)]), Answer::Part(Part::Whole), "{other}");
        }
        assert_eq!(asked(&[range, ("range", "bytes=3-4")]), Answer::Part(Part::Whole), "two are too many");
    }
}
