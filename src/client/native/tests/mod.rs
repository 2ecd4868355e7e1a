//! Tests with rows of every shape, cut anywhere: each receiver gets what it would have got alone.

use std::convert::Infallible;

use bytes::Bytes;
use proptest::prelude::*;
use reader::{Reader, plain};

use super::fuzzed::{Pieces, Received};
use super::window::put_varint;
use super::*;

mod dictionaries;
mod reader;

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Plain(Vec<u8>),
    Text(Vec<u8>),
    Null(Box<Value>),
    Present(Box<Value>),
    Array(Vec<Value>),
    Tuple(Vec<Value>),
    /// The number of a key.
    Key(u8),
}

/// The number of keys in each dictionary, whatever the values are.
const KEYS: u8 = 3;

/// Whether dictionaries without values are written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Server {
    Old,
    Modern,
}

/// Returns the key of a dictionary with a number.
fn key(shape: &Shape, number: u8) -> Value {
    match shape {
        Shape::Fixed(width) => Value::Plain(vec![number; *width]),
        Shape::Text => Value::Text(vec![b'k'; usize::from(number) * 70]),
        other => panic!("{other:?}"),
    }
}

/// Returns the width of the numbers of a dictionary with such keys: 0 to 3 for 1 to 8 bytes.
fn width(keys: &Shape) -> u32 {
    match keys {
        Shape::Text => 0,
        Shape::Fixed(width) => 1 + (*width as u32) % 3,
        other => panic!("{other:?}"),
    }
}

/// Writes the values of a column one after the other.
fn put(out: &mut Vec<u8>, shape: &Shape, values: &[Value], server: Server) {
    match shape {
        Shape::Fixed(_) => values.iter().for_each(|value| {
            let Value::Plain(bytes) = value else { panic!("{value:?}") };
            out.extend(bytes);
        }),
        Shape::Text => values.iter().for_each(|value| {
            let Value::Text(bytes) = value else { panic!("{value:?}") };
            put_varint(out, bytes.len() as u64);
            out.extend(bytes);
        }),
        Shape::Nullable(inner) => {
            let mut values_in = Vec::new();
            for value in values {
                let (Value::Null(value) | Value::Present(value)) = value else { panic!("{value:?}") };
                values_in.push(value.as_ref().clone());
            }
            out.extend(values.iter().map(|value| u8::from(matches!(value, Value::Null(_)))));
            put(out, inner, &values_in, server);
        }
        Shape::Array(inner) => {
            let mut all = Vec::new();
            for value in values {
                let Value::Array(elements) = value else { panic!("{value:?}") };
                all.extend(elements.iter().cloned());
                out.extend((all.len() as u64).to_le_bytes());
            }
            put(out, inner, &all, server);
        }
        Shape::Tuple(inner) => {
            for (index, shape) in inner.iter().enumerate() {
                let number = |value: &Value| match value {
                    Value::Tuple(elements) => elements[index].clone(),
                    other => panic!("{other:?}"),
                };
                put(out, shape, &values.iter().map(number).collect::<Vec<_>>(), server);
            }
        }
        Shape::Dictionary(_) if values.is_empty() && server == Server::Modern => {}
        Shape::Dictionary(keys) => {
            out.extend((0x600 | u64::from(width(keys))).to_le_bytes());
            out.extend(u64::from(KEYS).to_le_bytes());
            put(out, keys, &(0..KEYS).map(|number| key(keys, number)).collect::<Vec<_>>(), server);
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| {
                let Value::Key(number) = value else { panic!("{value:?}") };
                out.extend(&u64::from(*number).to_le_bytes()[..1 << width(keys)]);
            });
        }
    }
}

fn value(shape: &Shape) -> BoxedStrategy<Value> {
    match shape.clone() {
        Shape::Fixed(width) => proptest::collection::vec(any::<u8>(), width).prop_map(Value::Plain).boxed(),
        // Lengths of one and of two bytes.
        Shape::Text => prop_oneof![
            5 => proptest::collection::vec(any::<u8>(), 0..5),
            1 => proptest::collection::vec(any::<u8>(), 120..140)
        ]
        .prop_map(Value::Text)
        .boxed(),
        Shape::Nullable(inner) => (any::<bool>(), value(&inner))
            .prop_map(|(null, value)| if null { Value::Null(value.into()) } else { Value::Present(value.into()) })
            .boxed(),
        Shape::Array(inner) => proptest::collection::vec(value(&inner), 0..4).prop_map(Value::Array).boxed(),
        Shape::Tuple(inner) => inner.iter().map(value).collect::<Vec<_>>().prop_map(Value::Tuple).boxed(),
        Shape::Dictionary(_) => (0..KEYS).prop_map(Value::Key).boxed(),
    }
}

const TYPES: &[&str] = &[
    "UInt8",
    "Nullable(Int16)",
    "Array(UInt32)",
    "Array(Array(Nullable(String)))",
    "Map(String, FixedString(3))",
    "Tuple(a UUID, b Array(Tuple(UInt64, String)))",
    "Decimal(76, 1)",
    "LowCardinality(String)",
    "Array(LowCardinality(Nullable(String)))",
    "Map(LowCardinality(FixedString(3)), Tuple(LowCardinality(Date), Array(LowCardinality(UInt64)), UInt8))",
    "String",
];

type Rows = Vec<(u32, Vec<Value>)>;

fn names() -> Vec<String> {
    (0..TYPES.len()).map(|number| format!("c{number}")).collect()
}

fn head(out: &mut Vec<u8>, name: &str, type_name: &str) {
    for text in [name, type_name] {
        put_varint(out, text.len() as u64);
        out.extend(text.as_bytes());
    }
}

/// Returns a block of rows, with or without the slot column.
fn block(rows: &[(u32, Vec<Value>)], slots: bool, server: Server) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, (TYPES.len() + usize::from(slots)) as u64);
    put_varint(&mut out, rows.len() as u64);
    if slots {
        head(&mut out, "relayed slot", "UInt32");
        rows.iter().for_each(|(slot, _)| out.extend(slot.to_le_bytes()));
    }
    for (index, (name, type_name)) in names().iter().zip(TYPES).enumerate() {
        head(&mut out, name, type_name);
        let values: Vec<Value> = rows.iter().map(|(_, values)| values[index].clone()).collect();
        let shape = Shape::of(type_name).unwrap();
        if !rows.is_empty() {
            (0..shape.dictionaries()).for_each(|_| out.extend(1u64.to_le_bytes()));
            put(&mut out, &shape, &values, server);
        }
    }
    out
}

/// Deals a stream: shard 0 has slot 0, shard 1 has slots 1 and 2.
fn deal(stream: &[u8], piece: usize, server: Server) -> Result<Vec<Vec<u8>>, DealError<Infallible>> {
    let pieces = Pieces(stream.chunks(piece).map(Bytes::copy_from_slice).collect(), server == Server::Old);
    let mut received = Received(vec![Vec::new(); 2]);
    let columns = names();
    let dealer = Dealer::new(pieces, &mut received, &columns, &[0..1, 1..3]);
    futures::executor::block_on(dealer.deal())?;
    Ok(received.0)
}

fn rows() -> impl Strategy<Value = Rows> {
    let values = TYPES.iter().map(|type_name| value(&Shape::of(type_name).unwrap())).collect::<Vec<_>>();
    proptest::collection::vec((0u32..3, values), 0..30)
}

fn server() -> impl Strategy<Value = Server> {
    prop_oneof![Just(Server::Old), Just(Server::Modern)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_receiver_gets_its_rows(
        blocks in proptest::collection::vec(rows(), 0..4),
        piece in prop_oneof![1usize..40, Just(1 << 20)],
        server in server(),
    ) {
        let stream: Vec<u8> = blocks.iter().flat_map(|rows| block(rows, true, server)).collect();
        let received = deal(&stream, piece, server).unwrap();
        let shapes: Vec<Shape> = TYPES.iter().map(|type_name| Shape::of(type_name).unwrap()).collect();
        for (to, received) in received.iter().enumerate() {
            let own = blocks.iter().flatten().filter(|(slot, _)| (*slot > 0) == (to > 0));
            let expected: Vec<Vec<Value>> =
                own.map(|(_, row)| shapes.iter().zip(row).map(|(shape, value)| plain(shape, value)).collect()).collect();
            prop_assert_eq!(Reader(received).rows(), expected);
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error_and_a_damaged_stream_never_panics(
        rows in rows(), cut in any::<prop::sample::Index>(), byte in any::<u8>(), piece in 1usize..40,
        server in server(),
    ) {
        let mut stream = block(&rows, true, server);
        let position = cut.index(stream.len());
        // A stream cut between blocks would be complete.
        if position > 0 {
            prop_assert!(deal(&stream[..position], piece, server).is_err());
        }
        stream[position] ^= byte;
        let _ = deal(&stream, piece, server);
    }
}

#[test]
fn the_error_that_an_old_server_writes_after_the_rows_is_kept() {
    let rows = vec![(1, TYPES.iter().map(|type_name| zero(&Shape::of(type_name).unwrap())).collect())];
    let text = "Code: 395, e.displayText() = DB::Exception: no, e.what() = DB::Exception\n";
    let stream = [block(&rows, true, Server::Modern), text.into()].concat();
    for piece in [1, 7, 1 << 20] {
        match deal(&stream, piece, Server::Modern) {
            Err(DealError::NoBlock(bytes)) => assert_eq!(String::from_utf8_lossy(&bytes), text, "{piece}"),
            other => panic!("{other:?}"),
        }
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Fixed(width) => Value::Plain(vec![0; *width]),
        Shape::Text => Value::Text(Vec::new()),
        Shape::Nullable(inner) => Value::Null(Box::new(zero(inner))),
        Shape::Array(_) => Value::Array(Vec::new()),
        Shape::Tuple(inner) => Value::Tuple(inner.iter().map(zero).collect()),
        Shape::Dictionary(_) => Value::Key(0),
    }
}

#[test]
fn a_row_for_a_slot_without_a_receiver_is_an_error() {
    let rows = vec![(3, TYPES.iter().map(|type_name| zero(&Shape::of(type_name).unwrap())).collect())];
    assert!(deal(&block(&rows, true, Server::Modern), 1 << 20, Server::Modern).is_err());
}
