//! A render, live.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{self, Stream, StreamExt as _};
use lastframe_core::ports::Changes;
use lastframe_core::{RenderId, Scope};

use super::renders::{owned, view};
use super::{Api, ApiError, Path};
use crate::identity::Caller;

/// One event of a stream.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes; what is sent is axum's event")]
pub(super) struct RenderEvent {
    /// `render`.
    event: String,
    /// The whole render, as JSON.
    data: String,
}

/// Follow a render
///
/// Server-sent events of the name `render`, each with the whole render as it is; the first comes at once, the last
/// when it ends.
#[utoipa::path(
    get, path = "/v1/renders/{id}/events", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses(
        (status = 200, description = "A stream that ends with the render", body = RenderEvent, content_type = "text/event-stream"),
        ApiError,
    )
)]
pub(super) async fn events(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    caller.need(Scope::RendersRead)?;
    // Listening starts before looking, so nothing falls in between.
    let changes = api.queue.changes();
    let render = owned(&api, &caller, &id).await?.id;
    let stopping = api.stopping.clone();
    let follow = Follow { api, render, changes, first: true, over: false };
    let stream = stream::unfold(follow, Follow::next).take_until(stopping.cancelled_owned());
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Follow {
    api: Api,
    render: RenderId,
    changes: Changes,
    first: bool,
    over: bool,
}

impl Follow {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.over {
            return None;
        }
        if !self.first {
            while self.changes.next().await?.render != self.render {}
        }
        self.first = false;
        let render = match self.api.queue.get(self.render).await {
            Ok(render) => render?,
            Err(error) => {
                tracing::error!(%error, "a live stream ends: the queue does not answer");
                return None;
            }
        };
        self.over = render.status.is_terminal();
        let view = view(&self.api, render).await.ok()?;
        let event = Event::default().event("render").json_data(view).ok()?;
        Some((Ok(event), self))
    }
}
