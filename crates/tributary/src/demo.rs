//! `tributary demo-data`.

use tokio_util::sync::CancellationToken;
use tributary_demodata::LoadOptions;
use tributary_model::{Error, ErrorKind, Result};
use tributary_mongo::Connection;

use crate::DONE;
use crate::cli::DemoArguments;
use crate::console::{group, say};
use crate::mongodb_uri;

pub(crate) async fn run(arguments: DemoArguments, stop: CancellationToken) -> Result<u8> {
    if arguments
        .rate
        .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
    {
        return Err(Error::new(ErrorKind::Usage, "the rate is not above 0")
            .on("--rate", arguments.rate.unwrap_or(0.0)));
    }
    let connection = Connection::open(&mongodb_uri(&arguments.target)?, None).await?;
    let database = connection.database().ok_or_else(|| {
        Error::new(ErrorKind::Usage, "the address names no database")
            .on("target", connection.server())
            .remedy("write it as mongodb://host:port/database")
    })?;
    connection.ping().await?;
    let options = LoadOptions {
        seed: arguments.seed,
        start: arguments.start,
        count: (arguments.count > 0 || arguments.rate.is_none()).then_some(arguments.count),
        rate: arguments.rate,
        drop: arguments.drop,
        stop,
        ..LoadOptions::new(
            database,
            &arguments.collection,
            arguments.kind,
            arguments.count,
        )
    };
    let report = tributary_demodata::load(connection.client(), options).await.map_err(|error| {
        Error::new(ErrorKind::InvalidData, "cannot insert the documents")
            .on("server", connection.server())
            .on("namespace", format!("{database}.{}", arguments.collection))
            .because(error)
            .remedy("give --drop to begin with an empty collection, or --start to go on behind what is there")
    })?;
    say(&format!(
        "{} documents of kind {} in {database}.{}, {:.1} s; the next one is number {}",
        group(report.documents),
        arguments.kind,
        arguments.collection,
        report.elapsed.as_secs_f64(),
        report.next
    ));
    Ok(DONE)
}
