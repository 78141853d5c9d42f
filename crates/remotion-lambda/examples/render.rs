//! Renders a composition and follows it until its end.
//!
//! cargo run -p remotion-lambda --example render -- REGION FUNCTION SITE COMPOSITION [PROPS]

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::time::Duration;

use remotion_lambda::{Client, Codec, InputProps, RenderLocator, RenderMediaOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [region, function, site, composition, props @ ..] = &arguments[..] else {
        return Err("needs REGION FUNCTION SITE COMPOSITION [PROPS]".into());
    };
    let client = Client::from_env(region).await;
    let mut options = RenderMediaOptions::new(function, site, composition, Codec::H264);
    if let [props] = props {
        options.input_props = InputProps::from_json(props.as_str())?;
    }
    let render = loop {
        match client.render_media_on_lambda(&options).await {
            Err(error) if error.is_throttled() => {
                println!("{error}");
                tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_secs(10))).await;
            }
            Err(error) => {
                if let Some(advice) = error.advice() {
                    println!("{advice}");
                }
                return Err(error.into());
            }
            Ok(render) => break render,
        }
    };
    println!("started {} in {}", render.render_id, render.bucket_name);
    let locator = RenderLocator {
        function_name: function.clone(),
        bucket_name: render.bucket_name,
        render_id: render.render_id,
        ..RenderLocator::default()
    };
    loop {
        let progress = client.get_render_progress_from_bucket(&locator).await?.ok_or("its files are gone")?;
        println!("{:3.0}%  {}", progress.overall_progress * 100.0, progress.costs.display_cost);
        if let Some(error) = progress.fatal_error() {
            return Err(format!("{}\n{}", error.message, error.stack).into());
        }
        if let Some(output) = progress.output_file {
            println!("{output}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
