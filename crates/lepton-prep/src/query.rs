//! Whole queries: the engine between inputs and the steps.
//!
//! Owns: the engine's settings, its memory and its spill folder. Must not know: steps.
//!
//! The engine runs a query as one ordered stream, so that the same inputs give the same rows in
//! the same order; inputs are read and decoded for it on all threads, with the columns that the
//! query wants.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::{SQLOptions, SessionContext};
use futures_util::StreamExt;

use crate::bind::{config, plain};
use crate::error::{DescriptionError, PrepError};
use crate::ordered;
use crate::read::{Table, canonical};
use crate::run::Limits;

/// An input as the engine sees it.
#[derive(Debug)]
struct Provider {
    table: Arc<Table>,
    threads: usize,
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let all = (0..self.table.schema.fields().len()).collect();
        let columns = projection.cloned().unwrap_or(all);
        let schema = self.table.projected(&columns);
        let scan = Arc::new(Scan {
            table: Arc::clone(&self.table),
            columns,
            schema: Arc::clone(&schema),
            threads: self.threads,
        });
        let exec = StreamingTableExec::try_new(schema, vec![scan], None, [], false, limit)?;
        Ok(Arc::new(exec))
    }
}

#[derive(Debug)]
struct Scan {
    table: Arc<Table>,
    columns: Vec<usize>,
    schema: SchemaRef,
    threads: usize,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let send = stream.tx();
        let (table, columns, threads) =
            (Arc::clone(&self.table), self.columns.clone(), self.threads);
        stream.spawn_blocking(move || {
            let decode = |_, piece| table.decode(&piece, &columns);
            let outcome = ordered::each(threads, table.pieces(&columns), decode, |_, batch| {
                // Nobody listens once the query has what it wants.
                send.blocking_send(Ok(batch))
                    .map_err(|_| PrepError::Cancelled)
            });
            match outcome {
                Ok(()) | Err(PrepError::Cancelled) => Ok(()),
                Err(error) => Err(DataFusionError::External(Box::new(error))),
            }
        });
        stream.build()
    }
}

fn context(tables: &[Arc<Table>], limits: Option<&Limits>) -> EngineResult<SessionContext> {
    let mut settings = config()
        .with_target_partitions(1)
        .with_information_schema(false);
    // Sorted batches meet while there is little memory; the rest goes to the folder.
    settings
        .options_mut()
        .execution
        .sort_spill_reservation_bytes = 4 << 20;
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(limits) = limits {
        let share = usize::try_from(limits.memory_bytes / 2).unwrap_or(usize::MAX);
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![limits.scratch.clone()]))
            .with_max_temp_directory_size(limits.scratch_bytes);
        runtime = runtime
            .with_memory_pool(Arc::new(FairSpillPool::new(share)))
            .with_disk_manager_builder(disk);
    }
    let context = SessionContext::new_with_config_rt(settings, runtime.build_arc()?);
    let threads = limits.map_or(1, |limits| limits.threads);
    for table in tables {
        let provider = Provider {
            table: Arc::clone(table),
            threads,
        };
        context.register_table(
            datafusion::common::TableReference::bare(table.name.clone()),
            Arc::new(provider),
        )?;
    }
    Ok(context)
}

fn machine() -> Result<tokio::runtime::Runtime, PrepError> {
    let built = tokio::runtime::Builder::new_current_thread().build();
    built.map_err(|error| PrepError::Query(error.to_string()))
}

/// Reads only: nothing is made, changed or set.
const READS: fn() -> SQLOptions = || {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
};

async fn planned(context: &SessionContext, sql: &str) -> EngineResult<LogicalPlan> {
    let plan = context.state().create_logical_plan(sql).await?;
    READS().verify_plan(&plan)?;
    check(&plan)?;
    context.state().optimize(&plan)
}

/// The same rows on every day.
fn check(plan: &LogicalPlan) -> EngineResult<()> {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    use datafusion::logical_expr::Volatility;
    plan.apply_with_subqueries(|node| {
        for expr in node.expressions() {
            expr.apply(|part| match part {
                Expr::ScalarFunction(call)
                    if call.func.signature().volatility != Volatility::Immutable =>
                {
                    let message = format!(
                        "`{}` changes from one run to the next: give the value as a constant",
                        call.name()
                    );
                    Err(DataFusionError::Plan(message))
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The columns that a query gives.
pub(crate) fn schema_of(sql: &str, tables: &[Table]) -> Result<SchemaRef, PrepError> {
    let wrong = |error: DataFusionError| DescriptionError::Query(plain(&error));
    let tables: Vec<Arc<Table>> = tables
        .iter()
        .map(|table| Arc::new(table.outline()))
        .collect();
    let context = context(&tables, None).map_err(wrong)?;
    let plan = machine()?.block_on(planned(&context, sql)).map_err(wrong)?;
    let mut seen = std::collections::HashSet::new();
    let fields = plan.schema().fields().iter().map(|field| {
        if !seen.insert(field.name().clone()) {
            let message = format!(
                "two columns are called `{}`: rename one with AS",
                field.name()
            );
            return Err(DescriptionError::Query(message));
        }
        let data_type = canonical(field.data_type()).ok_or_else(|| {
            DescriptionError::Query(format!(
                "column `{}` is {}: cast it to numbers or text",
                field.name(),
                field.data_type()
            ))
        })?;
        Ok(Field::new(field.name(), data_type, true))
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// Runs a query and gives its batches, with the types that columns have here, in order.
pub(crate) fn run(
    sql: &str,
    tables: &[Arc<Table>],
    schema: &SchemaRef,
    limits: &Limits,
    mut sink: impl FnMut(RecordBatch) -> Result<(), PrepError>,
) -> Result<(), PrepError> {
    let failed = |error: DataFusionError| failure(&error);
    std::fs::create_dir_all(&limits.scratch).map_err(|source| PrepError::Write {
        path: Path::new(&limits.scratch).to_owned(),
        source,
    })?;
    let context = context(tables, Some(limits)).map_err(failed)?;
    let machine = machine()?;
    machine.block_on(async {
        let plan = planned(&context, sql).await.map_err(failed)?;
        let physical = context
            .state()
            .create_physical_plan(&plan)
            .await
            .map_err(failed)?;
        let mut stream = datafusion::physical_plan::execute_stream(physical, context.task_ctx())
            .map_err(failed)?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(failed)?;
            let arrays = batch
                .columns()
                .iter()
                .zip(schema.fields())
                .map(|(column, field)| datafusion::arrow::compute::cast(column, field.data_type()));
            let arrays = arrays
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| PrepError::Query(error.to_string()))?;
            let batch = RecordBatch::try_new(Arc::clone(schema), arrays)
                .map_err(|error| PrepError::Query(error.to_string()))?;
            sink(batch)?;
        }
        Ok(())
    })
}

/// A fault of a file that the query read is told as that.
fn failure(error: &DataFusionError) -> PrepError {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(PrepError::Read { file, line, fault }) = inner.downcast_ref::<PrepError>()
    {
        return PrepError::Read {
            file: file.clone(),
            line: *line,
            fault: fault.clone(),
        };
    }
    PrepError::Query(plain(error))
}
