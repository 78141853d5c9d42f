//! The same calls with this crate.

use remotion_lambda::webhook::validate_webhook_signature;
use remotion_lambda::{
    CancelRenderOptions, Client, DeleteRenderOptions, Error, EstimatePriceOptions, GetCompositionsOptions,
    GetFunctionsOptions, GetSitesOptions, LogLevel, PresignUrlOptions, RenderLocator, RenderMediaOptions,
    RenderStillOptions, SpeculateFunctionNameOptions, StillInit, estimate_price, speculate_function_name,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cases::Case;

/// What came of a call, in the shape the drivers of the other clients write it.
pub(crate) async fn make(client: &Client, case: &Case) -> Value {
    match call(client, case).await {
        // Webhooks have errors of their own.
        Ok(result) if case.call == "validateWebhookSignature" && result.is_object() => result,
        Ok(result) => json!({ "result": result }),
        Err(error) => {
            let stack = if let Error::Render { stack, .. } = &error { Some(stack.clone()) } else { None };
            json!({ "error": error.to_string(), "stack": stack, "kind": format!("{error:?}") })
        }
    }
}

async fn call(client: &Client, case: &Case) -> Result<Value, Error> {
    let options = dated(&case.options);
    let text = |name: &str| options[name].as_str().unwrap_or_default().to_owned();
    let number =
        |name: &str| options[name].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    Ok(match case.call.as_str() {
        "renderMediaOnLambda" => {
            value(client.render_media_on_lambda(&read::<RenderMediaOptions>(&options)).await?)
        }
        "renderStillOnLambda" => {
            let mut inits: Vec<StillInit> = Vec::new();
            let options = read::<RenderStillOptions>(&options);
            let result = client.render_still_on_lambda_with(&options, |init| inits.push(init)).await?;
            json!({ "result": result, "inits": inits })
        }
        "getRenderProgress" => {
            let render: RenderLocator = read(&options);
            if options["skipLambdaInvocation"] == true {
                value(client.get_render_progress_from_bucket(&render).await?)
            } else {
                value(client.get_render_progress(&render).await?)
            }
        }
        "getCompositionsOnLambda" => {
            value(client.get_compositions_on_lambda(&read::<GetCompositionsOptions>(&options)).await?)
        }
        "cancelRenderOnLambda" => {
            let render = CancelRenderOptions { bucket_name: text("bucketName"), render_id: text("renderId") };
            client.cancel_render_on_lambda(&render).await?;
            Value::Null
        }
        "deleteRender" => {
            let render = DeleteRenderOptions {
                bucket_name: text("bucketName"),
                render_id: text("renderId"),
                custom_credentials: None,
            };
            json!({ "freedBytes": client.delete_render(&render).await?.freed_bytes })
        }
        "presignUrl" => value(
            client
                .presign_url(&PresignUrlOptions {
                    bucket_name: text("bucketName"),
                    object_key: text("objectKey"),
                    expires_in_seconds: number("expiresInSeconds").into(),
                    check_if_object_exists: options["checkIfObjectExists"] == true,
                })
                .await?,
        ),
        "getFunctions" => {
            let compatible_with = (options["compatibleOnly"] == true).then(|| "4.0.527".to_owned());
            let log_level = options["logLevel"].as_str().map(LogLevel::from).unwrap_or_default();
            value(client.get_functions(&GetFunctionsOptions { compatible_with, log_level }).await?)
        }
        "getSites" => {
            let found = client
                .get_sites(&GetSitesOptions {
                    bucket_name: options["forceBucketName"].as_str().map(str::to_owned),
                    compatible_with: (options["compatibleOnly"] == true).then(|| "4.0.527".to_owned()),
                })
                .await?;
            value(found)
        }
        "speculateFunctionName" => {
            let name = speculate_function_name(&SpeculateFunctionNameOptions {
                version: "4.0.527".to_owned(),
                memory_size_in_mb: number("memorySizeInMb"),
                disk_size_in_mb: number("diskSizeInMb"),
                timeout_in_seconds: number("timeoutInSeconds"),
            })?;
            name.as_str().into()
        }
        "estimatePrice" => estimate_price(&EstimatePriceOptions {
            region: text("region"),
            duration_in_milliseconds: options["durationInMilliseconds"].as_f64().unwrap(),
            memory_size_in_mb: number("memorySizeInMb"),
            disk_size_in_mb: number("diskSizeInMb"),
            lambdas_invoked: number("lambdasInvoked"),
        })?
        .into(),
        "validateWebhookSignature" => {
            let body = options["body"].to_string();
            let header = options["signatureHeader"].as_str();
            match validate_webhook_signature(&text("secret"), body.as_bytes(), header) {
                Ok(()) => Value::Null,
                Err(error) => json!({ "error": error.to_string(), "kind": format!("{error:?}") }),
            }
        }
        other => panic!("{other} is not made"),
    })
}

fn read<T: DeserializeOwned>(options: &Value) -> T {
    serde_json::from_value(options.clone()).unwrap()
}

fn value(result: impl Serialize) -> Value {
    serde_json::to_value(result).unwrap()
}

/// With dates as the texts that stand for them.
fn dated(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(dated).collect(),
        Value::Object(fields) => match fields.get("$date").and_then(Value::as_str) {
            Some(date) => remotion_lambda::InputProps::date(date.parse().unwrap()).into(),
            None => fields.iter().map(|(name, value)| (name.clone(), dated(value))).collect(),
        },
        other => other.clone(),
    }
}
