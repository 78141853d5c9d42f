//! A letter for readers that show HTML: tables and inline styles, because that is what all of them know; nothing that is
//! fetched from anywhere; a dark dress where the reader has one.

use lastframe_core::Status;

use super::letter::{Button, Letter, Reason};

/// What the picture in a mail is called; `cid:` leads to it.
pub(super) const POSTER: &str = "poster@lastframe";

const FONT: &str = "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif";
const FIXED: &str = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace";

/// Readers that know dark dresses know classes, and they come after the inline styles.
const DARK: &str = "\
:root{color-scheme:light dark;supported-color-schemes:light dark}
@media (max-width:480px){.pad{padding-left:22px!important;padding-right:22px!important}.title{font-size:23px!important}\
.outer{padding:0!important}.card{border-radius:0!important;border-left:0!important;border-right:0!important}}
@media (prefers-color-scheme:dark){.page{background:#0e1014!important}.card{background:#181b21!important;border-color:#2a2f38!important}\
.ink{color:#f2f4f7!important}.soft{color:#a3abb8!important}.rule{border-color:#2a2f38!important}.box{background:#101318!important;\
border-color:#2a2f38!important}.code{background:#262b34!important}.good{background:#12352a!important;color:#6fdcae!important}\
.bad{background:#44191d!important;color:#ff9d9d!important}.calm{background:#2a2f38!important;color:#c3cad5!important}\
.button{background:#f2f4f7!important;color:#14161a!important}}";

/// The letter, with a picture if there is one.
pub(super) fn html(letter: &Letter, poster: bool) -> String {
    let (badge, dress) = match letter.outcome {
        Status::Succeeded => ("Ready", ("good", "background:#e2f6ec;color:#0b6b45")),
        Status::Failed => ("Failed", ("bad", "background:#fde5e5;color:#a81d24")),
        _ => ("Cancelled", ("calm", "background:#e9ebef;color:#4a5260")),
    };
    let title = escape(&letter.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"supported-color-schemes\" content=\"light dark\">\
         <title>{title}</title>\n<style>{DARK}</style></head>\n\
         <body class=\"page\" style=\"margin:0;padding:0;background:#f1f2f5;-webkit-text-size-adjust:100%\">\n\
         <div style=\"display:none;max-height:0;overflow:hidden\">{lead}</div>\n\
         <table role=\"presentation\" class=\"page\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" style=\"background:#f1f2f5\">\
         <tr><td class=\"outer\" align=\"center\" style=\"padding:28px 12px\">\n\
         <table role=\"presentation\" class=\"card\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" \
         style=\"max-width:560px;background:#ffffff;border:1px solid #e1e4ea;border-radius:14px;border-collapse:separate;overflow:hidden;\
         font-family:{FONT}\">\n",
        lead = escape(&letter.lead.replace('`', "")),
    );
    if poster {
        let picture = format!(
            "<img src=\"cid:{POSTER}\" width=\"560\" alt=\"A frame of {title}\" \
             style=\"display:block;width:100%;height:auto;border:0;outline:none\">"
        );
        let picture = match &letter.button {
            Some(Button { url, .. }) => {
                format!("<a href=\"{}\" style=\"text-decoration:none\">{picture}</a>", escape(url))
            }
            None => picture,
        };
        row(&mut html, "padding:0;font-size:0;line-height:0", "", &picture);
    }
    let (class, colours) = dress;
    let head = format!(
        "<span class=\"{class}\" style=\"display:inline-block;padding:4px 11px;border-radius:99px;font-size:12px;line-height:16px;\
         font-weight:600;letter-spacing:.02em;{colours}\">{badge}</span>\
         <h1 class=\"ink title\" style=\"margin:14px 0 0;font-size:26px;line-height:1.2;font-weight:700;letter-spacing:-.015em;color:#14161a;\
         overflow-wrap:anywhere;word-break:break-word\">{title}</h1>\
         <p class=\"soft\" style=\"margin:8px 0 0;font-size:15px;line-height:1.5;color:#5a6372\">{}</p>",
        marked(&letter.lead)
    );
    row(&mut html, "padding:28px 32px 0", "pad", &head);
    if let Some(reason) = &letter.reason {
        row(&mut html, "padding:20px 32px 0", "pad", &why(reason));
    }
    if let Some(Button { label, url }) = &letter.button {
        let button = format!(
            "<a class=\"button\" href=\"{}\" style=\"display:inline-block;padding:12px 22px;border-radius:9px;background:#14161a;color:#ffffff;\
             font-size:15px;line-height:20px;font-weight:600;text-decoration:none\">{label}</a>",
            escape(url)
        );
        row(&mut html, "padding:22px 32px 0", "pad", &button);
    }
    row(&mut html, "padding:24px 32px 0", "pad", &facts(letter));
    let mut end = String::new();
    for note in &letter.notes {
        paragraph(&mut end, &marked(note));
    }
    paragraph(&mut end, "Lastframe, the render queue. You get this because the render names your address.");
    row(&mut html, "padding:14px 32px 28px", "pad", &end);
    html.push_str("</table>\n</td></tr></table>\n</body></html>\n");
    html
}

fn row(html: &mut String, style: &str, class: &str, cell: &str) {
    html.push_str(&format!("<tr><td class=\"{class}\" style=\"{style}\">{cell}</td></tr>\n"));
}

fn paragraph(html: &mut String, text: &str) {
    let style = "margin:10px 0 0;font-size:13px;line-height:1.5;color:#6b7484;overflow-wrap:anywhere";
    html.push_str(&format!("<p class=\"soft\" style=\"{style}\">{text}</p>"));
}

fn why(Reason { code, message, advice }: &Reason) -> String {
    let lines = escape(message).replace('\n', "<br>");
    let mut html = format!(
        "<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\"><tr>\
         <td class=\"box rule\" style=\"padding:14px 16px;background:#f7f8fa;border:1px solid #e1e4ea;border-radius:9px\">\
         <div class=\"soft\" style=\"font-family:{FIXED};font-size:12px;line-height:1.4;color:#6b7484\">{}</div>\
         <div class=\"ink\" style=\"margin-top:6px;font-family:{FIXED};font-size:13px;line-height:1.5;color:#14161a;overflow-wrap:anywhere;\
         word-break:break-word\">{lines}</div></td></tr></table>",
        escape(code)
    );
    if let Some((means, act)) = advice {
        for (what, text) in [("What it means", means), ("What to do", act)] {
            let style = "margin:12px 0 0;font-size:14px;line-height:1.5;color:#5a6372;overflow-wrap:anywhere";
            html.push_str(&format!("<p class=\"soft\" style=\"{style}\"><strong class=\"ink\" style=\"color:#14161a\">{what}:</strong> {}</p>",
                marked(text)
            ));
        }
    }
    html
}

fn facts(letter: &Letter) -> String {
    let mut html = String::from(
        "<table role=\"presentation\" class=\"rule\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" \
         style=\"border-top:1px solid #e1e4ea\">",
    );
    for (name, value) in &letter.facts {
        html.push_str(&format!("<tr><td class=\"soft rule\" width=\"104\" style=\"padding:9px 12px 9px 0;font-size:13px;line-height:1.45;color:#6b7484;\
             vertical-align:top;border-bottom:1px solid #e1e4ea\">{name}</td>\
             <td class=\"ink rule\" style=\"padding:9px 0;font-size:13px;line-height:1.45;color:#14161a;vertical-align:top;\
             border-bottom:1px solid #e1e4ea;overflow-wrap:anywhere;word-break:break-word\">{}</td></tr>",
            escape(value)
        ));
    }
    html.push_str("</table>");
    html
}

/// Escaped, with what stands between backticks as code.
fn marked(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escape(part);
        if index % 2 == 0 {
            html.push_str(&part);
        } else {
            html.push_str(&format!("<code class=\"code\" style=\"padding:1px 5px;border-radius:4px;background:#eceef2;font-family:{FIXED};font-size:.92em\">{part}</code>"
            ));
        }
    }
    html
}

/// The one way into the page for what is not ours.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_stranger_is_read_as_html() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        assert!(marked("run `a<b` & c").contains(">a&lt;b</code> &amp; c"));
    }
}
