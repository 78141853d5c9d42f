//! What a delivery is called outside of this server.

use lastframe_core::RenderId;
use lastframe_core::outbox::{Delivery, DeliveryId};

/// A receiver that has seen the name has got that very delivery before. With the render in it, it is like no other, on this
/// server or another, also after a backup was put back.
#[must_use]
pub(crate) fn name(delivery: &Delivery) -> String {
    format!("dlv_{}_{}", delivery.render.to_string().replace('-', ""), delivery.id)
}

/// Which delivery, of which render, a name means.
pub(crate) fn parse_name(name: &str) -> Option<(RenderId, DeliveryId)> {
    let (render, number) = name.strip_prefix("dlv_")?.split_once('_')?;
    let plain = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if !plain(render, 32) || !plain(number, 19) {
        return None;
    }
    Some((render.parse().ok()?, DeliveryId(number.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_name_looks_like_is_read_as_one() {
        let good = "dlv_0192f0c1a2b37c3d8e4f5a6b7c8d9e0f_12";
        let (render, number) = parse_name(good).unwrap();
        assert_eq!(render.to_string(), "0192f0c1-a2b3-7c3d-8e4f-5a6b7c8d9e0f");
        assert_eq!(number, DeliveryId(12));
        for bad in [
            "",
            "12",
            "dlv_12",
            "dlv_x_12",
            "dlv_0192f0c1-a2b3-7c3d-8e4f-5a6b7c8d9e0f_12",
            &format!("{good}x"),
        ] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
