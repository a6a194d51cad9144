//! One replica by hand, without a server around it.
//!
//!     cargo run -p lepton-serving --example replica -- NAME MODEL.onnx 127.0.0.1:8000
//!
//! The library is `ORT_DYLIB_PATH`; the token that callers must show is `REPLICA_TOKEN`.

use std::env;
use std::error::Error;

use lepton_serving::token::ReplicaToken;
use lepton_serving::worker::{ServeOptions, serve};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(name), Some(model), Some(listen)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: replica NAME MODEL.onnx ADDRESS:PORT".into());
    };
    let library = env::var("ORT_DYLIB_PATH")?.into();
    let token = ReplicaToken::new(env::var("REPLICA_TOKEN")?);
    let options = ServeOptions {
        name,
        ..ServeOptions::new(model.into(), library, listen.parse()?, token)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(serve(options))?)
}
