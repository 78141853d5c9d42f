//! What a request must be to be rendered by Remotion Lambda.

use crate::frame_range::FrameRange;
use crate::render::Kind;
use crate::request::{Codec, Errors, FieldError, RenderRequest, RendererName};

/// Functions that one render may take: Remotion refuses more.
const MAX_FUNCTIONS: u32 = 200;
/// Frames of one function: Remotion refuses less.
const MIN_FRAMES: u32 = 4;

impl RenderRequest {
    /// Everything that Remotion Lambda 4.0.527 cannot do, as far as it can be told from the request alone.
    #[must_use]
    pub fn check_on_lambda(&self, kind: Kind) -> Vec<FieldError> {
        let mut errors = Errors::default();
        if kind == Kind::Media {
            self.check_media_on_lambda(&mut errors);
        }
        errors.within("/framesPerLambda", self.frames_per_lambda, MIN_FRAMES, u32::MAX);
        errors.within("/concurrencyPerLambda", self.concurrency_per_lambda, 1, 64);
        errors.within("/maxRetries", self.max_retries, 0, 10);
        if let Some(concurrency) = &self.concurrency {
            let fine =
                concurrency.as_u64().is_some_and(|number| (1..=MAX_FUNCTIONS.into()).contains(&number));
            let detail = format!("must be a whole number from 1 to {MAX_FUNCTIONS}");
            errors.unless(fine, "/concurrency", detail);
            let detail = "cannot go with `framesPerLambda`: choose one";
            errors.unless(self.frames_per_lambda.is_none(), "/concurrency", detail);
        }
        errors.0
    }

    fn check_media_on_lambda(&self, errors: &mut Errors) {
        let codec = self.codec();
        errors.unless(
            !matches!(codec, Codec::Av1 | Codec::H264Mkv | Codec::H264Ts),
            "/codec",
            format!("Remotion Lambda has no `{codec}`: take another, or `queue.renderer: \"local\"`"),
        );
        errors.unless(
            !matches!(self.frame_range, Some(FrameRange::Several(_))),
            "/frameRange",
            "Remotion Lambda takes one range: submit a render for each, or `queue.renderer: \"local\"`",
        );
        for (pointer, given) in [
            ("/enforceAudioTrack", self.enforce_audio_track),
            ("/forSeamlessAacConcatenation", self.for_seamless_aac_concatenation),
            ("/disallowParallelEncoding", self.disallow_parallel_encoding),
        ] {
            let detail = "Remotion Lambda does not know it: leave it out, or `queue.renderer: \"local\"`";
            errors.unless(given != Some(true), pointer, detail);
        }
    }

    /// What is said for Remotion Lambda alone in a request that the server's own machine renders, and would have
    /// changed more than where and how fast.
    #[must_use]
    pub fn check_on_this_machine(&self) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let max_cost = self.queue.as_ref().and_then(|queue| queue.max_cost);
        let detail = "is for Remotion Lambda (`queue.renderer`): this machine sends no bill";
        errors.unless(max_cost.is_none(), "/queue/maxCost", detail);
        errors.0
    }

    /// The same request, which now says by itself what makes it.
    #[must_use]
    pub fn rendered_by(mut self, renderer: RendererName) -> Self {
        self.queue.get_or_insert_default().renderer = Some(renderer);
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::{FOR_LAMBDA, QueueOptions};

    fn wrong(fields: &serde_json::Value) -> Vec<String> {
        let mut body = json!({"composition": "main", "serveUrl": "site"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let request: RenderRequest = serde_json::from_value(body).unwrap();
        request.check_on_lambda(Kind::Media).into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn what_remotion_lambda_cannot_do_is_refused_by_name() {
        for (fields, pointer) in [
            (json!({"codec": "av1"}), "/codec"),
            (json!({"codec": "h264-mkv"}), "/codec"),
            (json!({"frameRange": [[0, 1], [4, 5]]}), "/frameRange"),
            (json!({"enforceAudioTrack": true}), "/enforceAudioTrack"),
            (json!({"disallowParallelEncoding": true}), "/disallowParallelEncoding"),
            (json!({"framesPerLambda": 3}), "/framesPerLambda"),
            (json!({"concurrency": "50%"}), "/concurrency"),
            (json!({"concurrency": 201}), "/concurrency"),
            (json!({"concurrency": 2, "framesPerLambda": 20}), "/concurrency"),
            (json!({"concurrencyPerLambda": 0}), "/concurrencyPerLambda"),
            (json!({"maxRetries": 99}), "/maxRetries"),
        ] {
            assert_eq!(wrong(&fields), [pointer], "{fields}");
        }
        assert_eq!(wrong(&json!({"codec": "gif", "frameRange": [0, 5], "concurrency": 4})), [""; 0]);
    }

    #[test]
    fn a_bill_that_nobody_sends_has_no_limit() {
        let queue = QueueOptions { max_cost: Some(0.5), ..QueueOptions::default() };
        let request = RenderRequest { queue: Some(queue), ..RenderRequest::default() };
        assert_eq!(request.check_on_this_machine()[0].pointer, "/queue/maxCost");
        assert_eq!(request.rendered_by(RendererName::Lambda).renderer(), Some(RendererName::Lambda));
    }

    #[test]
    fn nothing_that_is_for_lambda_alone_reaches_a_renderer_of_this_machine() {
        let body = json!({
            "composition": "main", "serveUrl": "site", "region": "eu-central-1", "functionName": "f",
            "rendererFunctionName": "f", "forceBucketName": "b", "framesPerLambda": 9, "concurrency": 3,
            "concurrencyPerLambda": 2, "maxRetries": 1, "privacy": "public", "storageClass": "STANDARD",
        });
        let request: RenderRequest = serde_json::from_value(body).unwrap();
        let given = serde_json::to_value(request.for_remotion(Kind::Media)).unwrap();
        for name in FOR_LAMBDA {
            assert!(serde_json::to_value(&request).unwrap().get(name).is_some(), "{name}");
            assert!(given.get(name).is_none(), "{name}");
        }
    }
}
