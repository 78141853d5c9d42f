#![doc = include_str!("../README.md")]

mod bucket;
mod cleanup;
mod client;
mod credentials;
mod error;
mod function;
mod invoke;
mod options;
mod price;
mod progress;
mod region;
mod render;
mod sites;
mod stream;
pub mod webhook;

pub use aws_config::SdkConfig;
pub use bucket::{Bucket, GetOrCreateBucketOptions, GetOrCreateBucketOutput};
pub use cleanup::{CancelRenderOptions, DeleteRenderOptions, DeleteRenderOutput};
pub use client::Client;
pub use error::Error;
pub use function::{FunctionName, SpeculateFunctionNameOptions, speculate_function_name};
pub use options::{
    AudioCodec, ChromiumOptions, Codec, ColorSpace, DeleteAfter, DownloadBehavior, EnvVariables, Extra,
    FrameRange, GetCompositionsOptions, InputProps, LogLevel, OpenGlRenderer, OutName, PixelFormat, Privacy,
    ProResProfile, RenderMediaOptions, RenderStillOptions, S3OutputProvider, Secret, StillImageFormat,
    StorageClass, VideoImageFormat, Webhook, X264Preset,
};
pub use price::{EstimatePriceOptions, estimate_price};
pub use progress::{
    Artifact, ChunkRetry, CleanupInfo, CostsInfo, Dimensions, EncodingStatus, ExpensiveChunk, LambdaError,
    PostRenderCost, RenderLocator, RenderMetadata, RenderProgress, Timing,
};
pub use render::{
    FunctionInfo, GetFunctionsOptions, RenderMediaOutput, RenderStillOutput, StillInit, VideoConfig,
};
pub use sites::{GetSitesOptions, GetSitesOutput, PresignUrlOptions, Site};
pub use webhook::{WebhookPayload, validate_webhook_signature};
