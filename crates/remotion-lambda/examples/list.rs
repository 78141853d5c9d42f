//! Lists the functions and sites of a region.
//!
//! cargo run -p remotion-lambda --example list -- REGION

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;

use remotion_lambda::{Client, GetFunctionsOptions, GetSitesOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let region = std::env::args().nth(1).ok_or("needs REGION")?;
    let client = Client::from_env(region).await;
    for function in client.get_functions(&GetFunctionsOptions::default()).await? {
        println!("{}  {}", function.function_name, function.version.unwrap_or_default());
    }
    for site in client.get_sites(&GetSitesOptions::default()).await?.sites {
        println!("{}  {}  {}", site.id, site.version.unwrap_or_default(), site.serve_url);
    }
    Ok(())
}
