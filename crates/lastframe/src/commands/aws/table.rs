//! Tables of rights and changes, for reading.

use lastframe_stack::comparison::Comparison;
use lastframe_stack::deploy::ResourceChange;

/// How wide a column may be before its text goes on in the next line.
const WIDEST: usize = 44;

/// A table with a line between its rows.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let cells: Vec<Vec<Vec<String>>> =
        std::iter::once(&head).chain(rows).map(|row| row.iter().map(|cell| wrap(cell)).collect()).collect();
    let width = |column: usize| {
        let lines = cells.iter().flat_map(|row| &row[column]);
        lines.map(|line| line.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let rule = |left: char, cross: char, right: char| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(&cross.to_string()))
    };
    let mut drawn = rule('┌', '┬', '┐');
    for (number, row) in cells.iter().enumerate() {
        if number > 0 {
            drawn += &rule('├', '┼', '┤');
        }
        for line in 0..row.iter().map(Vec::len).max().unwrap_or_default() {
            for (cell, width) in row.iter().zip(&widths) {
                let text = cell.get(line).map(String::as_str).unwrap_or_default();
                drawn += &format!("│ {text:<width$} ");
            }
            drawn += "│\n";
        }
    }
    drawn + rule('└', '┴', '┘').trim_end()
}

/// Lines that are short enough, broken where a name has a joint.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut rest = line;
        while rest.chars().count() > WIDEST {
            let end = rest.char_indices().nth(WIDEST).map_or(rest.len(), |(at, _)| at);
            let joint = rest[..end].rfind([' ', ':', '/', ',', '-']).map_or(end, |at| at + 1);
            let at = if joint < end / 2 { end } else { joint };
            lines.push(rest[..at].to_owned());
            rest = &rest[at..];
        }
        lines.push(rest.to_owned());
    }
    lines
}

/// Who may do more or less, and which parameters change; `None` when neither.
pub(super) fn comparison(comparison: &Comparison) -> Option<String> {
    let mut parts = Vec::new();
    if !comparison.rights.is_empty() {
        let row = |change: &lastframe_stack::rights::Change| {
            vec![
                if change.added { "+" } else { "-" }.to_owned(),
                change.principal.clone(),
                change.effect.clone(),
                change.actions.join("\n"),
                change.resources.join("\n"),
                change.condition.clone(),
            ]
        };
        let rows: Vec<_> = comparison.rights.iter().map(row).collect();
        let head = ["", "Principal", "Effect", "Action", "Resource", "Condition"];
        parts.push(format!("Changes of rights (IAM):\n{}", table(&head, &rows)));
    }
    if !comparison.parameters.is_empty() {
        let shown = |value: &Option<String>| match value.as_deref() {
            None => String::new(),
            Some("") => "(empty)".to_owned(),
            Some(value) if value.chars().count() > 2 * WIDEST => {
                format!("{}…", value.chars().take(2 * WIDEST).collect::<String>())
            }
            Some(value) => value.to_owned(),
        };
        let rows: Vec<_> = comparison
            .parameters
            .iter()
            .map(|change| vec![change.name.clone(), shown(&change.before), shown(&change.after)])
            .collect();
        parts.push(format!("Parameters:\n{}", table(&["Name", "Now", "Then"], &rows)));
    }
    (!parts.is_empty()).then(|| parts.join("\n"))
}

/// What happens to which resource.
pub(super) fn resources(changes: &[ResourceChange]) -> String {
    let row = |change: &ResourceChange| {
        let sign = match change.action.as_str() {
            "Add" => "+",
            "Remove" => "-",
            "Import" => "<",
            _ => "~",
        };
        let replaced = match change.replacement.as_str() {
            "True" => "another takes its place",
            "Conditional" => "another may take its place",
            _ => "",
        };
        vec![
            sign.to_owned(),
            change.resource.clone(),
            change.kind.clone(),
            change.properties.join(", "),
            replaced.to_owned(),
        ]
    };
    let rows: Vec<_> = changes.iter().map(row).collect();
    format!("Resources:\n{}", table(&["", "Name", "Type", "What changes", ""], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_everywhere_and_loses_no_text() {
        let long = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:remotion-render-*";
        let drawn =
            table(&["", "Resource"], &[vec!["+".into(), long.into()], vec!["-".into(), "ünïcode".into()]]);
        let widths: Vec<_> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width < 60), "{drawn}");
        let text: String = drawn.chars().filter(|letter| !"│─┌┬┐├┼┤└┴┘ \n".contains(*letter)).collect();
        assert_eq!(text, format!("Resource+{long}-ünïcode"));
    }
}
