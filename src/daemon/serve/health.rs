//! `/livez` and `/readyz` without TLS, on the loopback: for whoever watches the process and has no certificate.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::body::Bounded;
use super::request::Desk;

/// Each of them is answered at once.
const MOST: usize = 32;
const LONGEST: Duration = Duration::from_secs(10);

/// Answers, one request per connection, for ever. `desk` has a router without anything else in it.
pub async fn run(listener: TcpListener, desk: Arc<Desk>) {
    let slots = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let desk = Arc::clone(&desk);
                async move {
                    let request = request.map(|body| Body::new(Bounded::new(body, 0, LONGEST)));
                    Ok::<_, std::convert::Infallible>(desk.answer(request).await)
                }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.keep_alive(false)
                .timer(TokioTimer::new())
                .header_read_timeout(LONGEST)
                .max_buf_size(16 * 1024);
            let _ = tokio::time::timeout(LONGEST, http.serve_connection(TokioIo::new(socket), service)).await;
            drop(slot);
        });
    }
}
