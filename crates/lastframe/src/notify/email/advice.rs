//! What to do about a failure: as docs/troubleshooting.md has it, so that it is said in one place.

const DOCUMENT: &str = include_str!("../../../../../docs/troubleshooting.md");
/// The part of it that has the codes of failed renders.
const PART: &str = "## A render failed";

/// What the code means, and what to do, as plain text.
pub(super) fn of(code: &str) -> Option<(String, String)> {
    let part = DOCUMENT.split_once(PART)?.1;
    let part = part.split_once("\n## ").map_or(part, |(part, _)| part);
    let wanted = format!("`{code}`");
    part.lines().find_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let (codes, means, act) = (cells.next()?, cells.next()?, cells.next()?);
        codes.split(", ").any(|named| named == wanted).then(|| (sentence(means), sentence(act)))
    })
}

/// A cell as a sentence.
fn sentence(cell: &str) -> String {
    let mut plain = unlinked(cell);
    if let Some(first) = plain.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    plain + "."
}

/// A line of Markdown with the names of pages in place of links to them.
fn unlinked(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('[') {
        let link = after.split_once("](").and_then(|(_, after)| after.split_once(')'));
        let Some((page, after)) = link else { break };
        plain.push_str(before);
        plain.push_str("docs/");
        plain.push_str(page);
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_page_has_its_meaning_and_its_mend() {
        let codes = DOCUMENT.split_once(PART).unwrap().1.split("\n## ").next().unwrap().lines();
        let codes: Vec<_> = codes.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert!(codes.len() > 15, "{codes:?}");
        for code in codes {
            let (means, act) = of(code).unwrap_or_else(|| panic!("{code}"));
            assert!(!means.is_empty() && !act.is_empty(), "{code}");
            assert!(!format!("{means}{act}").contains("]("), "{code}: {means} {act}");
        }
        assert_eq!(of("no_such_code"), None);
    }

    #[test]
    fn links_become_the_names_of_pages() {
        assert_eq!(unlinked("see [a](b.md#c), and [d](e.md)"), "see docs/b.md#c, and docs/e.md");
        assert_eq!(unlinked("an array[0] stays"), "an array[0] stays");
    }
}
