//! What a request asks: the parameters of its address and, with a form, of its body, read as Loki reads them.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use watchbell_rules::query::{Direction, parameters};
use watchbell_rules::time::{Timestamp, parse_duration};

use super::Failure;

/// The parameters of a request, those of a form first.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    /// Whether labels are to be told apart by where they are from.
    pub(super) categorize: bool,
}

impl Parameters {
    pub(super) async fn read(request: Request<Body>) -> Result<Self, Failure> {
        let (head, body) = request.into_parts();
        let categorize = head.headers.get_all(ENCODING_FLAGS).iter().any(|flags| {
            let mut flags = flags.to_str().unwrap_or_default().split(',');
            flags.any(|flag| flag.trim() == CATEGORIZE_LABELS)
        });
        let mut parameters = Self { pairs: Vec::new(), categorize };
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form = content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        if head.method == Method::POST && is_form {
            let form = to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| Failure {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                message: format!("the form is over {FORM_BYTES_MAX} bytes, or ended early"),
            })?;
            parameters.add(&form);
        }
        parameters.add(head.uri.query().unwrap_or_default().as_bytes());
        Ok(parameters)
    }

    fn add(&mut self, encoded: &[u8]) {
        let pairs = url::form_urlencoded::parse(encoded);
        self.pairs.extend(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())));
    }

    /// The first value, empty where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    pub(super) fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.pairs.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A time; `default` where there is none.
    pub(super) fn time(&self, name: &str, default: Timestamp) -> Result<Timestamp, Failure> {
        match self.get(name) {
            "" => Ok(default),
            text => {
                parameters::time(text).map_err(|error| Failure::bad_request(format!("`{name}`: {}", error.message)))
            }
        }
    }

    /// From `start` to `end`: up to now and an hour, or `since`, back where it is not said.
    pub(super) fn bounds(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), Failure> {
        let since = match self.get("since") {
            "" => DEFAULT_SINCE,
            text => parse_duration(text).map_err(|_| {
                Failure::bad_request(format!("`since`: `{text}` is no duration: write one like `30m` or `2h`"))
            })?,
        };
        let end = self.time("end", now)?;
        let start = self.time("start", end.min(now) - since)?;
        Ok((start, end))
    }

    /// The same, of which the end is not before the start.
    pub(super) fn span(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), Failure> {
        let (start, end) = self.bounds(now)?;
        match end < start {
            true => Err(Failure::bad_request(format!("the end, {end}, is before the start, {start}"))),
            false => Ok((start, end)),
        }
    }

    /// From step to step.
    pub(super) fn step(&self, start: Timestamp, end: Timestamp) -> Result<Duration, Failure> {
        match self.get("step") {
            "" => Ok(parameters::default_step(start, end)),
            text => Ok(parameters::step(text)?),
        }
    }

    /// A duration or seconds; zero where there is none.
    pub(super) fn duration(&self, name: &str) -> Result<Duration, Failure> {
        match self.get(name) {
            "" => Ok(Duration::ZERO),
            text => parameters::step(text).map_err(|_| {
                Failure::bad_request(format!("`{name}`: `{text}` is no duration: write seconds, or one like `30s`"))
            }),
        }
    }

    /// How many are wanted.
    pub(super) fn limit(&self, name: &str, default: usize) -> Result<usize, Failure> {
        match self.get(name) {
            "" => Ok(default),
            text => text.parse().ok().filter(|limit| (1..=u32::MAX as usize).contains(limit)).ok_or_else(|| {
                Failure::bad_request(format!("`{name}`: `{text}` is no limit: write a whole number above 0"))
            }),
        }
    }

    pub(super) fn direction(&self) -> Result<Direction, Failure> {
        match self.get("direction").to_ascii_lowercase().as_str() {
            "" | "backward" => Ok(Direction::Backward),
            "forward" => Ok(Direction::Forward),
            other => Err(Failure::bad_request(format!("`{other}` is no direction: write `forward` or `backward`"))),
        }
    }
}

/// By which Grafana asks for [`CATEGORIZE_LABELS`].
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";
/// Index labels, structured metadata and extracted labels are to stand apart.
pub(super) const CATEGORIZE_LABELS: &str = "categorize-labels";

const DEFAULT_SINCE: Duration = Duration::from_secs(60 * 60);

/// A longer form is refused.
const FORM_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    async fn parameters(request: axum::http::request::Builder, body: &'static str) -> Parameters {
        Parameters::read(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_form_counts_before_the_address() {
        let request =
            Request::post("/x?limit=2&query=a%20b").header("content-type", "application/x-www-form-urlencoded");
        let asked = parameters(request, "limit=3&match[]=x&match[]=y").await;
        assert_eq!((asked.get("query"), asked.limit("limit", 1)), ("a b", Ok(3)));
        assert_eq!(asked.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
        assert!(!asked.categorize);
        let request = Request::get("/x?limit=2").header("X-Loki-Response-Encoding-Flags", "a, categorize-labels");
        let asked = parameters(request, "limit=3").await;
        assert_eq!((asked.limit("limit", 1), asked.categorize), (Ok(2), true), "a body that is no form says nothing");
    }

    #[tokio::test]
    async fn bounds_have_the_defaults_of_lokis_api() {
        let now = Timestamp(10_000 * 1_000_000_000);
        let bounds = async |query: &'static str| {
            let asked = parameters(Request::get(query), "").await;
            asked.bounds(now).map(|(start, end)| (start.0 / 1_000_000_000, end.0 / 1_000_000_000))
        };
        assert_eq!(bounds("/x").await, Ok((6400, 10_000)));
        assert_eq!(bounds("/x?since=30m").await, Ok((8200, 10_000)));
        assert_eq!(bounds("/x?end=20000").await, Ok((6400, 20_000)), "an end in the future does not move the start");
        assert_eq!(bounds("/x?start=5&end=7.5").await, Ok((5, 7)));
        assert!(bounds("/x?since=x").await.unwrap_err().message.starts_with("`since`: `x` is no duration"));
        assert!(bounds("/x?end=x").await.unwrap_err().message.starts_with("`end`: `x` is no time"));
    }
}
