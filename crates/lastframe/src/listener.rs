//! Connections: accepted, bounded in number, time and size, and closed in good order.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::Http;
use crate::tls::Tls;

/// How long to wait when a connection cannot be accepted: most often, too many files are open.
const LACK: Duration = Duration::from_millis(100);
/// A timer that ends so long after its time was not waited for by a process that ran.
const LATE: Duration = Duration::from_millis(100);
/// How long a client is then waited for once more.
const GRACE: Duration = Duration::from_secs(1);

/// Answers whoever connects, until told to close; then lets requests under way end, and returns.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Http,
    tls: Option<Tls>,
    close: CancellationToken,
) {
    let edge = Arc::new(Edge { router, limits, tls });
    let crowd = Arc::new(Crowd::default());
    let graceful = GracefulShutdown::new();
    let mut lacking = false;
    loop {
        let accepted = tokio::select! {
            () = close.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                lacking = false;
                if let Some(seat) = crowd.seat(edge.limits.max_connections) {
                    tokio::spawn(Arc::clone(&edge).attend(stream, remote, seat, graceful.watcher()));
                }
            }
            // The client went away before it was its turn.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut lacking, true) {
                    tracing::error!(%error, "cannot accept connections; trying again");
                }
                crowd.close_idlest();
                tokio::time::sleep(LACK).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// What every connection shares.
struct Edge {
    router: Router,
    limits: Http,
    tls: Option<Tls>,
}

impl Edge {
    /// Sees a connection through. How it ends is its client's business, and is not logged.
    async fn attend(self: Arc<Self>, stream: TcpStream, remote: SocketAddr, seat: Seat, watcher: Watcher) {
        // Answers are written whole; waiting for more to send would only delay them.
        drop(stream.set_nodelay(true));
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.write_timeout));
        let stream = Box::pin(stream);
        let leave = seat.leave.clone();
        let attended = async {
            let Some(tls) = &self.tls else { return self.speak(stream, remote, seat, watcher).await };
            let handshake = TlsAcceptor::from(tls.current()).accept(stream);
            if let Ok(Ok(stream)) = timeout(self.limits.header_timeout, handshake).await {
                self.speak(stream, remote, seat, watcher).await;
            }
        };
        tokio::select! {
            () = leave.cancelled() => {}
            () = attended => {}
        }
    }

    async fn speak<S>(&self, stream: S, remote: SocketAddr, seat: Seat, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let busy = seat.busy();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(remote));
            let answer = self.router.clone().oneshot(request);
            async move { Ok::<_, Infallible>(answer.await?.map(|body| Answer { body, _busy: busy })) }
        });
        let connection = http1::Builder::new()
            .timer(Patient)
            // It counts from when the connection is free, so it is also how long one is kept for a next request.
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.max_header)
            .serve_connection(TokioIo::new(stream), service);
        drop(watcher.watch(connection).await);
    }
}

/// Time for clients, of which what passes while this process stands still is not all counted against them.
///
/// When it goes on after it was stopped, or slept with its machine, every connection is overdue before anybody has looked
/// at what came over it meanwhile. To close it then would cost its client the request that it has just sent.
#[derive(Debug)]
struct Patient;

impl Timer for Patient {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        let sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
        Box::pin(PatientSleep { sleep, excused: false })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

struct PatientSleep {
    sleep: Pin<Box<tokio::time::Sleep>>,
    excused: bool,
}

impl Future for PatientSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.sleep.as_mut().poll(context));
        let now = Instant::now();
        if self.excused || now.duration_since(self.sleep.deadline()) < LATE {
            return Poll::Ready(());
        }
        self.excused = true;
        self.sleep.as_mut().reset(now + GRACE);
        self.sleep.as_mut().poll(context)
    }
}

impl Sleep for PatientSleep {}

/// Who is connected.
#[derive(Default)]
struct Crowd(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Taken>,
}

struct Taken {
    /// Since when its client has been waited for; none while a request of it is worked on or answered.
    waiting: Option<Instant>,
    leave: CancellationToken,
}

impl Crowd {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more, if need be by closing another; none when all that there may be are at work.
    fn seat(self: &Arc<Self>, most: usize) -> Option<Seat> {
        if self.seats().taken.len() >= most && !self.close_idlest() {
            return None;
        }
        let mut seats = self.seats();
        seats.next += 1;
        let (number, leave) = (seats.next, CancellationToken::new());
        seats.taken.insert(number, Taken { waiting: Some(Instant::now()), leave: leave.clone() });
        Some(Seat { crowd: Arc::clone(self), number, leave })
    }

    /// Closes the connection whose client has been waited for longest, if there is one.
    fn close_idlest(&self) -> bool {
        let mut seats = self.seats();
        let waiting = seats.taken.iter().filter_map(|(number, taken)| Some((taken.waiting?, *number)));
        let Some((_, number)) = waiting.min() else { return false };
        seats.taken.remove(&number).is_some_and(|taken| {
            taken.leave.cancel();
            true
        })
    }

    fn wait_for(&self, number: u64, since: Option<Instant>) {
        if let Some(taken) = self.seats().taken.get_mut(&number) {
            taken.waiting = since;
        }
    }
}

/// A place among the connections; given up when dropped.
struct Seat {
    crowd: Arc<Crowd>,
    number: u64,
    leave: CancellationToken,
}

impl Seat {
    /// Until what it gives is dropped, this connection is not the one to close.
    fn busy(&self) -> Busy {
        self.crowd.wait_for(self.number, None);
        Busy { crowd: Arc::clone(&self.crowd), number: self.number }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.seats().taken.remove(&self.number);
    }
}

struct Busy {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.crowd.wait_for(self.number, Some(Instant::now()));
    }
}

/// An answer's body, which keeps its connection busy until it is sent.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_that_nobody_could_have_used_is_not_all_counted() {
        let begun = Instant::now();
        Patient.sleep(Duration::from_secs(10)).await;
        assert!(begun.elapsed() < Duration::from_secs(10) + LATE);

        let mut sleep = Patient.sleep(Duration::from_secs(10));
        assert!(poll!(&mut sleep).is_pending());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(poll!(&mut sleep).is_pending(), "nobody has looked at what came meanwhile");
        tokio::time::advance(GRACE).await;
        assert!(poll!(&mut sleep).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_waits_longest_makes_room_and_one_at_work_never_does() {
        let crowd = Arc::new(Crowd::default());
        let first = crowd.seat(2).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = crowd.seat(2).unwrap();
        let at_work = first.busy();
        let third = crowd.seat(2).unwrap();
        assert!(second.leave.is_cancelled() && !first.leave.is_cancelled());
        let _at_work_too = third.busy();
        assert!(crowd.seat(2).is_none(), "nobody can make room");
        drop(at_work);
        let fourth = crowd.seat(2).unwrap();
        assert!(first.leave.is_cancelled());
        // One that was closed gives up its seat a little later, and nobody else's.
        drop((first, second));
        assert_eq!(crowd.seats().taken.len(), 2);
        drop(fourth);
        assert_eq!(crowd.seats().taken.len(), 1);
    }
}
