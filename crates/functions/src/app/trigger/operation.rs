//! Operations that triggers fire on, and where each of them happens.

/// What a trigger watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One collection.
    Collection,
    /// All collections of one database.
    Database,
    /// All databases of a deployment.
    Deployment,
}

impl Scope {
    /// The scope of a database and a collection that are or are not named.
    ///
    /// # Errors
    /// That the collection is of no database.
    pub fn of(database: Option<&str>, collection: Option<&str>) -> Result<Self, String> {
        match (database, collection) {
            (None, None) => Ok(Self::Deployment),
            (Some(_), None) => Ok(Self::Database),
            (Some(_), Some(_)) => Ok(Self::Collection),
            (None, Some(collection)) => {
                Err(format!("the collection `{collection}` is of no database"))
            }
        }
    }

    /// These operations, each once.
    ///
    /// # Errors
    /// That there are none, or which of them never happen in this scope.
    pub fn check(self, operations: Vec<Operation>) -> Result<Vec<Operation>, String> {
        let mut checked = Vec::with_capacity(operations.len());
        for operation in operations {
            if operation.narrowest() > self {
                return Err(format!(
                    "{} is not seen by a trigger on {self}: watch {}",
                    operation.name(),
                    match operation.narrowest() {
                        Self::Deployment => "a deployment",
                        _ => "a database or a deployment",
                    },
                ));
            }
            if !checked.contains(&operation) {
                checked.push(operation);
            }
        }
        match checked.is_empty() {
            true => Err("there is no operation to fire on".to_owned()),
            false => Ok(checked),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Collection => "a collection",
            Self::Database => "a database",
            Self::Deployment => "a deployment",
        })
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $stream:literal, $scope:ident;)+) => {
        /// An operation that triggers fire on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $($(#[$doc])* $variant,)+
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// What App Services calls it, such as `INSERT`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The `operationType` of its events, such as `insert`.
            #[must_use]
            pub fn change_stream_name(self) -> &'static str {
                match self { $(Self::$variant => $stream,)+ }
            }

            /// The narrowest scope in which it is seen.
            #[must_use]
            pub fn narrowest(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)+ }
            }
        }
    };
}

operations! {
    /// A new document.
    Insert: "INSERT", "insert", Collection;
    /// A document that was changed.
    Update: "UPDATE", "update", Collection;
    /// A document in place of another.
    Replace: "REPLACE", "replace", Collection;
    /// A document that is gone.
    Delete: "DELETE", "delete", Collection;
    /// A new collection.
    CreateCollection: "CREATE_COLLECTION", "create", Database;
    /// A collection with other options.
    ModifyCollection: "MODIFY_COLLECTION", "modify", Database;
    /// A collection with another name.
    RenameCollection: "RENAME_COLLECTION", "rename", Database;
    /// A collection that is gone.
    DropCollection: "DROP_COLLECTION", "drop", Database;
    /// A collection that is spread over shards.
    ShardCollection: "SHARD_COLLECTION", "shardCollection", Database;
    /// A collection that is spread in another way.
    ReshardCollection: "RESHARD_COLLECTION", "reshardCollection", Database;
    /// A collection with a longer shard key.
    RefineCollectionShardKey: "REFINE_COLLECTION_SHARD_KEY", "refineCollectionShardKey", Database;
    /// New indexes of a collection.
    CreateIndexes: "CREATE_INDEXES", "createIndexes", Database;
    /// Indexes of a collection that are gone.
    DropIndexes: "DROP_INDEXES", "dropIndexes", Database;
    /// A database that is gone.
    DropDatabase: "DROP_DATABASE", "dropDatabase", Deployment;
}

impl Operation {
    /// The operation that App Services calls this, in whatever case.
    ///
    /// # Errors
    /// That there is none, and which there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL
            .iter()
            .find(|operation| operation.name().eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|operation| operation.name()).collect();
            format!(
                "there is no operation `{name}`; there is {}",
                names.join(", ")
            )
        })
    }

    /// Whether change streams tell of it only with `showExpandedEvents`.
    #[must_use]
    pub fn is_expanded(self) -> bool {
        matches!(
            self,
            Self::CreateCollection
                | Self::ModifyCollection
                | Self::ShardCollection
                | Self::ReshardCollection
                | Self::RefineCollectionShardKey
                | Self::CreateIndexes
                | Self::DropIndexes
        )
    }
}
