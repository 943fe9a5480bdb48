//! `tributary sql`.

use tokio_util::sync::CancellationToken;
use tributary_lake::{Lake, Location};
use tributary_model::Result;

use crate::DONE;
use crate::cli::SqlArguments;

pub(crate) async fn run(arguments: SqlArguments, stop: CancellationToken) -> Result<u8> {
    let query = async {
        let lake = Lake::open(Location::parse(&arguments.lake)?).await?;
        let mut out = std::io::BufWriter::new(std::io::stdout());
        lake.query(&arguments.query, arguments.output.into(), &mut out)
            .await
    };
    tokio::select! {
        () = stop.cancelled() => Ok(DONE),
        result = query => result.map(|()| DONE),
    }
}
