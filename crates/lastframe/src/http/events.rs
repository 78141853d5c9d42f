//! Renders, live: one, or all of a tenant.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use lastframe_core::{RenderId, Scope};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::renders::{owned, view};
use super::{Api, ApiError, Path, Query, RenderView, Token};
use crate::identity::Caller;
use crate::live::{Follower, News, Topic};

/// How long a stream says nothing; proxies close what is silent for longer.
const SILENCE: Duration = Duration::from_secs(15);
/// What the id of the last event of a render begins with: the rest says when the render ended.
const ENDED: &str = "ended-";

/// One event of a render's stream.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes; what is sent is axum's event")]
pub(super) struct RenderEvent {
    /// `render`.
    event: String,
    /// Where the stream is; give it as `Last-Event-ID`.
    id: String,
    /// The whole render, as JSON.
    data: String,
}

/// One event of a tenant's stream.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes; what is sent is axum's event")]
pub(super) struct TenantEvent {
    /// `render`; or `reset`: read the list anew, for what changed before is not told.
    event: String,
    /// Where the stream is; give it as `Last-Event-ID`.
    id: String,
    /// The whole render, as JSON; of a `reset`, an empty object.
    data: String,
}

/// Where a stream that broke off was.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct LastEventId {
    /// The `id` of the last event that came: what changed since is told, and nothing before.
    #[param(rename = "Last-Event-ID")]
    id: Option<String>,
}

impl FromRequestParts<Api> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Infallible> {
        let id = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok(Self { id })
    }
}

/// Whose renders.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WhoseRenders {
    /// `all`: those of every tenant, each with its `tenant`. Needs the scope `admin`.
    tenants: Option<String>,
}

/// Follow a render
///
/// Server-sent events of the name `render`, each with the whole render as it is; the first comes at once, the last
/// when it ends. Who comes back after that last one, with its id, is answered 204: there will be no more.
#[utoipa::path(
    get, path = "/v1/renders/{id}/events", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id"), LastEventId),
    responses(
        (status = 200, description = "A stream that ends with the render", body = RenderEvent, content_type = "text/event-stream"),
        (status = 204, description = "It has ended, and that was told already"),
        ApiError,
    )
)]
pub(super) async fn events(
    State(api): State<Api>,
    caller: Caller,
    token: Token,
    LastEventId { id: last }: LastEventId,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?.id;
    let follower = follow(&api, &caller, Topic::Render(render), last.as_deref())?;
    // Looked at again, now that nothing falls in between.
    let found = owned(&api, &caller, &id).await?;
    let end = found.finished_at.filter(|_| found.status.is_terminal()).map(ended);
    if end.is_some() && end == last {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let first = !follower.resumed() || end.is_some();
    let stopping = api.stopping.clone();
    let stream = RenderStream {
        listener: Listener { api, caller, token, all: false },
        follower,
        render,
        first,
        over: false,
    };
    Ok(answer(stopping, stream::unfold(stream, RenderStream::next)))
}

/// Follow all your renders
///
/// Server-sent events of the name `render`, each with the whole render as it is, for every change from now on, and `reset`,
/// which says to read the list anew: it comes first, unless the stream goes on where another one was, and whenever it is not known
/// what has changed. Several changes in a row may come as one. What is removed is not told.
#[utoipa::path(
    get, path = "/v1/events", tag = "renders", security(("token" = [])), params(WhoseRenders, LastEventId),
    responses(
        (status = 200, description = "A stream without an end", body = TenantEvent, content_type = "text/event-stream"),
        ApiError,
    )
)]
pub(super) async fn tenant_events(
    State(api): State<Api>,
    caller: Caller,
    token: Token,
    LastEventId { id: last }: LastEventId,
    Query(query): Query<WhoseRenders>,
) -> Result<Response, ApiError> {
    let all = match query.tenants.as_deref() {
        None => false,
        Some("all") => true,
        Some(_) => return Err(ApiError::invalid("/tenants", "must be `all`, or left out for your own")),
    };
    caller.need(if all { Scope::Admin } else { Scope::RendersRead })?;
    let topic = if all { Topic::All } else { Topic::Tenant(caller.tenant.clone()) };
    let follower = follow(&api, &caller, topic, last.as_deref())?;
    let (anew, stopping) = (!follower.resumed(), api.stopping.clone());
    let stream = TenantStream { listener: Listener { api, caller, token, all }, follower, anew };
    Ok(answer(stopping, stream::unfold(stream, TenantStream::next)))
}

fn follow(api: &Api, caller: &Caller, topic: Topic, last: Option<&str>) -> Result<Follower, ApiError> {
    let live = api.live.as_ref().ok_or(ApiError::NoStreams)?;
    live.follow(&caller.tenant, topic, last).map_err(ApiError::TooManyStreams)
}

/// A stream that ends when the server does.
fn answer(
    stopping: CancellationToken,
    events: impl stream::Stream<Item = Event> + Send + 'static,
) -> Response {
    let events = Sse::new(events.take_until(stopping.cancelled_owned()).map(Ok::<_, Infallible>));
    // nginx collects an answer before it passes that on, unless told otherwise.
    ([(HeaderName::from_static("x-accel-buffering"), "no")], events).into_response()
}

fn ended(at: jiff::Timestamp) -> String {
    format!("{ENDED}{}", at.as_millisecond())
}

/// Who listens.
struct Listener {
    api: Api,
    caller: Caller,
    token: Token,
    all: bool,
}

impl Listener {
    /// What its follower hears next, none when nothing happens for a while; an error when it may hear no more.
    async fn hear(&self, follower: &mut Follower) -> Result<Option<News>, ()> {
        let news = tokio::time::timeout(SILENCE, follower.next()).await.ok();
        // Asked each time, so that nothing is told under a token that is good no more.
        let now = self.api.identity.verify(&self.token.0).await.map_err(drop)?;
        let needed = if self.all { Scope::Admin } else { Scope::RendersRead };
        let may = now.tenant == self.caller.tenant && now.scopes.allow(needed);
        may.then_some(news).ok_or(())
    }

    /// The render as it is now; none when it was removed, an error when it cannot be read.
    async fn look(&self, render: RenderId) -> Result<Option<Seen>, ()> {
        let look = async {
            let Some(render) = self.api.queue.get(render).await? else { return Ok(None) };
            let end = render.finished_at.filter(|_| render.status.is_terminal());
            Ok::<_, ApiError>(Some(Seen { end, render: view(&self.api, render).await? }))
        };
        look.await
            .map_err(|error| tracing::error!(%error, render.id = %render, "a live stream ends: a render cannot be read"))
    }
}

struct Seen {
    end: Option<jiff::Timestamp>,
    render: RenderView,
}

/// Says nothing, but where the stream is: who comes back after a long silence need not look at everything.
fn silence(follower: &Follower) -> Event {
    Event::default().comment("").id(follower.place())
}

struct RenderStream {
    listener: Listener,
    follower: Follower,
    render: RenderId,
    /// It is told without anything having happened.
    first: bool,
    over: bool,
}

impl RenderStream {
    async fn next(mut self) -> Option<(Event, Self)> {
        if self.over {
            return None;
        }
        if !std::mem::take(&mut self.first) && self.listener.hear(&mut self.follower).await.ok()?.is_none() {
            return Some((silence(&self.follower), self));
        }
        let seen = self.listener.look(self.render).await.ok()??;
        self.over = seen.render.status.is_terminal();
        let id = seen.end.map_or_else(|| self.follower.place(), ended);
        let event = Event::default().event("render").id(id).json_data(seen.render).ok()?;
        Some((event, self))
    }
}

struct TenantStream {
    listener: Listener,
    follower: Follower,
    /// What is there must be read anew, and that is not told yet.
    anew: bool,
}

impl TenantStream {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            let news = if std::mem::take(&mut self.anew) {
                Some(News::Missed)
            } else {
                self.listener.hear(&mut self.follower).await.ok()?
            };
            let event = match news {
                None => silence(&self.follower),
                Some(News::Missed) => Event::default().event("reset").id(self.follower.place()).data("{}"),
                Some(News::Changed(render)) => {
                    let Some(seen) = self.listener.look(render).await.ok()? else { continue };
                    Event::default().event("render").id(self.follower.place()).json_data(seen.render).ok()?
                }
            };
            return Some((event, self));
        }
    }
}
