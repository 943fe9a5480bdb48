//! Reading an attached table, as a step of a query's plan.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result as QueryResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::TryStreamExt;
use tributary_flow::{AttachedTable, Scan};

use super::external;

/// How many batches wait for those who take them, beside the one that is being read.
const WAITING_BATCHES: usize = 2;

/// The rows of one statement.
pub(super) struct AttachedScan {
    /// The table's name in queries.
    name: String,
    table: Arc<dyn AttachedTable>,
    scan: Scan,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AttachedScan {
    pub(super) fn new(
        name: String,
        table: Arc<dyn AttachedTable>,
        scan: Scan,
    ) -> QueryResult<Self> {
        let schema = Arc::new(table.schema().project(&scan.columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            name,
            table,
            scan,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl fmt::Debug for AttachedScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachedScan")
            .field("name", &self.name)
            .field("scan", &self.scan)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for AttachedScan {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statement = self.table.statement(&self.scan);
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "AttachedScan: table={}, statement={statement}",
                    self.name
                )
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", self.name)?;
                write!(f, "statement={statement}")
            }
        }
    }
}

impl ExecutionPlan for AttachedScan {
    fn name(&self) -> &str {
        "AttachedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> QueryResult<TreeNodeRecursion>,
    ) -> QueryResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("an attached table has no children")
        }
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> QueryResult<SendableRecordBatchStream> {
        let mut stream =
            RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), WAITING_BATCHES);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let (table, scan, out) = (Arc::clone(&self.table), self.scan.clone(), stream.tx());
        stream.spawn(async move {
            let mut rows = table.scan(&scan).await.map_err(external)?;
            while let Some(batch) = rows.try_next().await.map_err(external)? {
                metrics.record_output(batch.num_rows());
                if out.send(Ok(batch)).await.is_err() {
                    // Nobody wants more.
                    break;
                }
            }
            Ok(())
        });
        Ok(stream.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> QueryResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        // By this it is decided which side of a join is held in memory.
        let rows = match (self.table.estimated_rows(), self.scan.limit) {
            (Some(rows), Some(limit)) => Some(rows.min(limit)),
            (rows, limit) => rows.or(limit),
        };
        if let Some(rows) = rows.and_then(|rows| usize::try_from(rows).ok()) {
            statistics.num_rows = Precision::Inexact(rows);
        }
        Ok(Arc::new(statistics))
    }
}
