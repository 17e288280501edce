//! A receiver of webhooks that keeps what it gets.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;

use super::{RUNTIME, tick, until};

/// A webhook receiver on a free port. It answers 200 unless told otherwise.
pub(crate) struct Webhook {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// When it came, by [`tick`].
    pub(crate) received: u64,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// What it was answered with.
    pub(crate) answer: StatusCode,
}

#[derive(Default)]
struct Shared {
    deliveries: Mutex<Vec<Delivery>>,
    /// What the next requests are answered with, the last one first; 200 when it is empty.
    answers: Mutex<Vec<StatusCode>>,
}

impl Webhook {
    pub(crate) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let listener = RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new().fallback(receive).with_state(shared.clone());
        RUNTIME.spawn(async { axum::serve(listener, app).await.unwrap() });
        Self { port, shared }
    }

    /// Answers the next requests with these, then 200 again.
    pub(crate) fn answer_next(&self, answers: &[u16]) {
        let answers = answers.iter().rev().map(|answer| StatusCode::from_u16(*answer).unwrap());
        *self.shared.answers.lock().unwrap() = answers.collect();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.shared.deliveries.lock().unwrap().clone()
    }

    /// Waits for a delivery that was taken and whose payload `is_it`.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Delivery {
        until(what, || {
            self.deliveries().into_iter().find(|delivery| delivery.answer.is_success() && is_it(&delivery.body))
        })
    }

    /// Waits for the page that says that this alert fires.
    #[track_caller]
    pub(crate) fn wait_alert(&self, name: &str, status: &str) -> Delivery {
        self.wait(&format!("a page: {name} is {status}"), |body| {
            body["alerts"].as_array().is_some_and(|alerts| {
                alerts.iter().any(|alert| alert["labels"]["alertname"] == name && alert["status"] == status)
            })
        })
    }

    /// The config of a tree that sends everything here at once.
    pub(crate) fn alerting(&self) -> String {
        format!(
            "alerting:\n  route: {{receiver: hook, group_by: [alertname, service_name], group_wait: 0s, group_interval: 1s}}\n  \
             receivers:\n    - name: hook\n      webhook_configs: [{{url: '{}'}}]\n",
            self.url()
        )
    }
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let received = tick();
    let path = uri.path().to_owned();
    let answer = shared.answers.lock().unwrap().pop().unwrap_or(StatusCode::OK);
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    shared.deliveries.lock().unwrap().push(Delivery { received, path, headers, body, answer });
    answer
}
