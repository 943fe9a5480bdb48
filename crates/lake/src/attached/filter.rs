//! Conditions of the query engine as those that a database may be asked for.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use tributary_flow::{Comparison, Filter, Literal};

/// The condition, where it is one of the simple sort on columns of this schema.
pub(super) fn of(expression: &Expr, schema: &SchemaRef) -> Option<Filter> {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => Some(Filter::And(both(left, right, schema)?)),
            Operator::Or => Some(Filter::Or(both(left, right, schema)?)),
            _ => match (left.as_ref(), right.as_ref()) {
                (column, Expr::Literal(value, _)) => {
                    compare(column, comparison(*op)?, value, schema)
                }
                (Expr::Literal(value, _), column) => {
                    compare(column, mirrored(comparison(*op)?), value, schema)
                }
                _ => None,
            },
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            let (column, data_type) = column(expr, schema)?;
            let value = |item: &Expr| match item {
                Expr::Literal(value, _) => literal(value, &data_type),
                _ => None,
            };
            let values = list.iter().map(value).collect::<Option<_>>()?;
            Some(Filter::In(column, values))
        }
        Expr::IsNull(of) => Some(Filter::IsNull(column(of, schema)?.0)),
        Expr::IsNotNull(of) => Some(Filter::IsNotNull(column(of, schema)?.0)),
        // A column of booleans is a condition by itself.
        Expr::Column(_) => boolean(expression, true, schema),
        Expr::Not(of) => boolean(of, false, schema),
        _ => None,
    }
}

fn both(left: &Expr, right: &Expr, schema: &SchemaRef) -> Option<Vec<Filter>> {
    Some(vec![of(left, schema)?, of(right, schema)?])
}

fn boolean(expression: &Expr, value: bool, schema: &SchemaRef) -> Option<Filter> {
    let (column, data_type) = column(expression, schema)?;
    let value = Literal::Boolean(value);
    (data_type == DataType::Boolean).then_some(Filter::Compare(column, Comparison::Equal, value))
}

fn compare(
    expression: &Expr,
    comparison: Comparison,
    value: &ScalarValue,
    schema: &SchemaRef,
) -> Option<Filter> {
    let (column, data_type) = column(expression, schema)?;
    let value = literal(value, &data_type)?;
    Some(Filter::Compare(column, comparison, value))
}

fn comparison(operator: Operator) -> Option<Comparison> {
    Some(match operator {
        Operator::Eq => Comparison::Equal,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// The same with its sides exchanged.
fn mirrored(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::Equal,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
    }
}

/// The place of a column, and its type.
fn column(expression: &Expr, schema: &SchemaRef) -> Option<(usize, DataType)> {
    let Expr::Column(column) = expression else {
        return None;
    };
    let (place, field) = schema.column_with_name(&column.name)?;
    Some((place, field.data_type().clone()))
}

/// A value of the type of the column beside it; none where it is of another, or null.
fn literal(value: &ScalarValue, column: &DataType) -> Option<Literal> {
    Some(match (value, column) {
        (ScalarValue::Boolean(Some(value)), DataType::Boolean) => Literal::Boolean(*value),
        (ScalarValue::Int16(Some(value)), DataType::Int16) => Literal::Integer((*value).into()),
        (ScalarValue::Int32(Some(value)), DataType::Int32) => Literal::Integer((*value).into()),
        (ScalarValue::Int64(Some(value)), DataType::Int64) => Literal::Integer(*value),
        (ScalarValue::Float32(Some(value)), DataType::Float32) => Literal::Float(*value),
        (ScalarValue::Float64(Some(value)), DataType::Float64) => Literal::Double(*value),
        (ScalarValue::Decimal128(Some(digits), _, scale), DataType::Decimal128(..)) => {
            Literal::Decimal(*digits, *scale)
        }
        (
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            DataType::Utf8,
        ) => Literal::Text(text.clone()),
        (ScalarValue::Date32(Some(days)), DataType::Date32) => Literal::Date(*days),
        (
            ScalarValue::TimestampMicrosecond(Some(micros), None),
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ) => Literal::Timestamp(*micros),
        // Moments are the same in every zone.
        (
            ScalarValue::TimestampMicrosecond(Some(micros), Some(_)),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)),
        ) => Literal::Moment(*micros),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{cast, col, lit, not};

    use super::*;

    fn schema() -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
            Field::new("b", DataType::Boolean, true),
            Field::new("moment", utc, true),
        ]))
    }

    #[test]
    fn simple_conditions_are_taken_over() {
        let one = || Literal::Integer(1);
        for (expression, filter) in [
            (
                col("n").lt(lit(1_i64)),
                Filter::Compare(0, Comparison::Less, one()),
            ),
            (
                lit(1_i64).lt_eq(col("n")),
                Filter::Compare(0, Comparison::GreaterOrEqual, one()),
            ),
            (
                col("t").in_list(vec![lit("a"), lit("b")], false),
                Filter::In(
                    1,
                    vec![Literal::Text("a".to_owned()), Literal::Text("b".to_owned())],
                ),
            ),
            (
                col("b").or(not(col("b"))),
                Filter::Or(vec![
                    Filter::Compare(2, Comparison::Equal, Literal::Boolean(true)),
                    Filter::Compare(2, Comparison::Equal, Literal::Boolean(false)),
                ]),
            ),
            (
                col("t").is_null().and(col("n").is_not_null()),
                Filter::And(vec![Filter::IsNull(1), Filter::IsNotNull(0)]),
            ),
            (
                col("moment").eq(Expr::Literal(
                    ScalarValue::TimestampMicrosecond(Some(5), Some("+01:00".into())),
                    None,
                )),
                Filter::Compare(3, Comparison::Equal, Literal::Moment(5)),
            ),
        ] {
            assert_eq!(of(&expression, &schema()), Some(filter), "{expression}");
        }
    }

    #[test]
    fn others_are_left_to_the_engine() {
        for expression in [
            col("n").not_eq(lit(1_i64)),
            col("n").lt(lit(1_i32)),
            col("n").eq(col("n")),
            col("n").eq(Expr::Literal(ScalarValue::Int64(None), None)),
            cast(col("n"), DataType::Int32).eq(lit(1_i32)),
            col("t").like(lit("a%")),
            col("t").in_list(vec![lit("a")], true),
            col("t").in_list(vec![col("t")], false),
            not(col("b").is_null()),
            col("t"),
            col("n").lt(lit(1_i64)).or(col("t").like(lit("a%"))),
            col("missing").is_null(),
        ] {
            assert_eq!(of(&expression, &schema()), None, "{expression}");
        }
    }
}
