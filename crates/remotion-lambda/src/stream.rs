//! The messages of a function that answers bit by bit.
//!
//! Each is `remotion_buffer:{type}:{length}:{status}:` and that many bytes; types are numbers.

use serde::Deserialize;
use serde_json::Value;

use crate::Error;

const MARK: &[u8] = b"remotion_buffer:";

/// The longest head of a message: a mark and three numbers.
const HEAD_LIMIT: usize = 64;

/// A message of a still.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    /// The render has an id now.
    RenderId(String),
    /// It failed.
    Failed { error: String },
    /// It is done.
    Still(Value),
    /// Something a still need not know.
    Other,
}

/// Takes bytes and gives messages.
#[derive(Default)]
pub(crate) struct Messages(Vec<u8>);

impl Messages {
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        if self.0.is_empty() {
            self.0 = bytes;
        } else {
            self.0.extend(bytes);
        }
    }

    /// What is no message yet.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.0
    }

    /// The next message, if it is all there. What stands between messages is dropped.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Error> {
        let Some(start) = self.0.windows(MARK.len()).position(|window| window == MARK) else {
            return Ok(None);
        };
        let head = start + MARK.len();
        let mut fields = self.0[head..].splitn(4, |byte| *byte == b':');
        let (Some(kind), Some(length), Some(status), Some(body)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return if self.0.len() - start > HEAD_LIMIT {
                Err(odd("a head without an end"))
            } else {
                Ok(None)
            };
        };
        let number =
            |field: &[u8]| std::str::from_utf8(field).ok().and_then(|digits| digits.parse::<usize>().ok());
        let (Some(kind), Some(length), Some(_)) = (number(kind), number(length), number(status)) else {
            return Err(odd("a head without numbers"));
        };
        if body.len() < length {
            return Ok(None);
        }
        let message = read(kind, &body[..length])?;
        let end = self.0.len() - body.len() + length;
        self.0.drain(..end);
        Ok(Some(message))
    }
}

fn read(kind: usize, body: &[u8]) -> Result<Message, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RenderId {
        render_id: String,
    }
    #[derive(Deserialize)]
    struct Failed {
        error: String,
    }
    let wrong = |error: serde_json::Error| odd(&format!("message {kind}: {error}"));
    Ok(match kind {
        2 => Message::Failed { error: serde_json::from_slice::<Failed>(body).map_err(wrong)?.error },
        3 => Message::RenderId(serde_json::from_slice::<RenderId>(body).map_err(wrong)?.render_id),
        6 => Message::Still(serde_json::from_slice(body).map_err(wrong)?),
        _ => Message::Other,
    })
}

fn odd(message: &str) -> Error {
    Error::Reply { action: "lambda:InvokeFunction", message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(messages: &mut Messages) -> Vec<Message> {
        std::iter::from_fn(|| messages.next().unwrap()).collect()
    }

    const SAID: &[u8] = b"remotion_buffer:3:18:0:{\"renderId\":\"abc\"}xremotion_buffer:1:2:0:{}remotion_buffer:6:14:0:{\"size\":12345}";

    #[test]
    fn messages_may_be_cut_anywhere() {
        for cut in 0..SAID.len() {
            let mut messages = Messages::default();
            messages.push(SAID[..cut].to_vec());
            let mut heard = all(&mut messages);
            messages.push(SAID[cut..].to_vec());
            heard.extend(all(&mut messages));
            let still = Message::Still(serde_json::json!({ "size": 12345 }));
            assert_eq!(heard, [Message::RenderId("abc".to_owned()), Message::Other, still], "cut at {cut}");
            assert!(messages.waiting().is_empty());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for said in ["remotion_buffer:x:1:0:a", "remotion_buffer:2:-1:0:a", "remotion_buffer:3:2:0:{}"] {
            let mut messages = Messages::default();
            messages.push(said.as_bytes().to_vec());
            assert!(messages.next().is_err(), "{said}");
        }
        let mut messages = Messages::default();
        messages.push([MARK, &[b'1'; 100]].concat());
        assert!(messages.next().is_err());
    }
}
