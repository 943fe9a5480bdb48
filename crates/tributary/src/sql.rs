//! `tributary sql`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_lake::{Lake, Location};
use tributary_model::{Error, ErrorKind, Result};
use tributary_warehouse::AttachedServer;

use crate::cli::SqlArguments;
use crate::{DONE, address};

pub(crate) async fn run(arguments: SqlArguments, stop: CancellationToken) -> Result<u8> {
    let query = async {
        let attached = arguments.attached.iter().map(|text| named(text));
        let attached = attached.collect::<Result<Vec<_>>>()?;
        let lake = open(&arguments.place.lake, &attached).await?;
        let mut out = std::io::BufWriter::new(std::io::stdout());
        lake.query(&arguments.query, arguments.output.into(), &mut out)
            .await
    };
    tokio::select! {
        () = stop.cancelled() => Ok(DONE),
        result = query => result.map(|()| DONE),
    }
}

/// A lake with the databases of these names and addresses attached to it.
pub(crate) async fn open(lake: &str, attached: &[(&str, &str)]) -> Result<Lake> {
    let servers = attached.iter().map(|(name, at)| {
        let server = AttachedServer::new(&address(at)?);
        Ok((*name, server.map_err(|error| error.on("attached", name))?))
    });
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let mut lake = Lake::open(Location::parse(lake)?).await?;
    for (name, server) in servers {
        lake.attach(name, Arc::new(server))?;
    }
    Ok(lake)
}

/// The name and the address of `NAME=ADDRESS`.
fn named(text: &str) -> Result<(&str, &str)> {
    let named = text.split_once('=').filter(|(name, _)| is_name(name));
    named.ok_or_else(|| {
        // What was given is not repeated, for it may be an address with a password.
            Error::new(ErrorKind::Usage, "--attach names no database")
                .because("a name and an address are to be given, with a `=` between them")
                .remedy(
                    "write it as --attach pg=postgres://user:password@host/database; a name has letters, digits, `_` and `-`",
                )
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}
