//! What a browser is told to do with an output, and what it calls it: `Content-Disposition` (RFC 6266).

use crate::percent;
use crate::request::{DownloadBehavior, RenderRequest};

/// The header for the output of that key. `save` lets a browser save what it would show.
#[must_use]
pub fn disposition(request: &RenderRequest, key: &str, save: bool) -> String {
    let (how, named) = match &request.download_behavior {
        Some(DownloadBehavior::Download { file_name }) => ("attachment", file_name.as_deref()),
        _ if save => ("attachment", None),
        _ => ("inline", None),
    };
    let extension = key.rsplit_once('.').map_or("bin", |(_, extension)| extension);
    let usual = format!("{}.{extension}", request.composition);
    header(how, named.or(request.out_name.as_deref()).unwrap_or(&usual))
}

/// The header that lets a browser save the output under that name.
#[must_use]
pub fn saved_as(name: &str) -> String {
    header("attachment", name)
}

fn header(how: &str, name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let ascii: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' })
        .collect();
    format!("{how}; filename=\"{ascii}\"; filename*=UTF-8''{}", percent::encode(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> RenderRequest {
        RenderRequest {
            composition: "main".into(),
            out_name: Some(name.to_owned()),
            ..RenderRequest::default()
        }
    }

    #[test]
    fn a_file_name_cannot_break_out_of_its_header_or_name_a_folder() {
        let told = |name: &str| disposition(&named(name), "id/1.mp4", false);
        assert_eq!(told("a.mp4"), "inline; filename=\"a.mp4\"; filename*=UTF-8''a.mp4");
        assert_eq!(told("../../etc/a"), "inline; filename=\"a\"; filename*=UTF-8''a");
        assert_eq!(
            told("x\"; b=\"y\r\n"),
            "inline; filename=\"x_; b=_y__\"; filename*=UTF-8''x%22%3B%20b%3D%22y%0D%0A"
        );
        assert_eq!(told("片.mp4"), "inline; filename=\"_.mp4\"; filename*=UTF-8''%E7%89%87.mp4");
        assert_eq!(saved_as("片\n"), "attachment; filename=\"__\"; filename*=UTF-8''%E7%89%87%0A");
    }

    #[test]
    fn a_file_is_saved_where_the_request_or_who_fetches_it_says_so_and_shown_otherwise() {
        let mut request = RenderRequest { composition: "main".into(), ..RenderRequest::default() };
        let how = |request: &RenderRequest, save| {
            let told = disposition(request, "s3://bucket/id/1.webm", save);
            told.split_once("; filename*").unwrap().0.to_owned()
        };
        assert_eq!(how(&request, false), "inline; filename=\"main.webm\"");
        assert_eq!(how(&request, true), "attachment; filename=\"main.webm\"");
        request.download_behavior = Some(DownloadBehavior::Download { file_name: Some("film.webm".into()) });
        assert_eq!(how(&request, false), "attachment; filename=\"film.webm\"");
    }
}
