//! gRPC for one agent: which path is which call.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use super::agent::Agent;
use super::messages::{AgentRequest, Capabilities, ConfidenceResult, Health};

/// Bytes of one request.
const LARGEST: usize = 1024 * 1024;
const PREFIX: &str = "/parallax.confidence.ConfidenceAgent/";

type Soon<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Results = Pin<Box<dyn Stream<Item = Result<ConfidenceResult, Status>> + Send>>;

/// One agent, for whoever connects to its door.
#[derive(Clone)]
pub struct Served(pub Arc<Agent>);

impl<B> Service<http::Request<B>> for Served
where
    B: hyper::body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let agent = self.0.clone();
        Box::pin(async move {
            let method = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "HealthCheck" => grpc().unary(HealthCheck(agent), request).await,
                "GetCapabilities" => grpc().unary(GetCapabilities(agent), request).await,
                "Analyze" => grpc().unary(Analyze(agent), request).await,
                "StreamAnalyze" => grpc().server_streaming(StreamAnalyze(agent), request).await,
                _ => Status::unimplemented("this is a ConfidenceAgent and nothing else").into_http(),
            })
        })
    }
}

fn grpc<T, U>() -> Grpc<ProstCodec<T, U>>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(LARGEST)
}

struct HealthCheck(Arc<Agent>);
struct GetCapabilities(Arc<Agent>);
struct Analyze(Arc<Agent>);
struct StreamAnalyze(Arc<Agent>);

impl UnaryService<()> for HealthCheck {
    type Response = Health;
    type Future = Soon<Health>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let health = self.0.health();
        Box::pin(async move { Ok(Response::new(health)) })
    }
}

impl UnaryService<()> for GetCapabilities {
    type Response = Capabilities;
    type Future = Soon<Capabilities>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let capabilities = self.0.capabilities();
        Box::pin(async move { capabilities.map(Response::new) })
    }
}

impl UnaryService<AgentRequest> for Analyze {
    type Response = ConfidenceResult;
    type Future = Soon<ConfidenceResult>;

    fn call(&mut self, request: Request<AgentRequest>) -> Self::Future {
        let agent = self.0.clone();
        Box::pin(async move { agent.analyze(request.into_inner()).await.map(Response::new) })
    }
}

impl ServerStreamingService<AgentRequest> for StreamAnalyze {
    type Response = ConfidenceResult;
    type ResponseStream = Results;
    type Future = Soon<Results>;

    /// One result, when there is one: an agent's answer is whole or nothing.
    fn call(&mut self, request: Request<AgentRequest>) -> Self::Future {
        let agent = self.0.clone();
        Box::pin(async move {
            let result = agent.analyze(request.into_inner()).await?;
            Ok(Response::new(Box::pin(tokio_stream::once(Ok(result))) as Results))
        })
    }
}
