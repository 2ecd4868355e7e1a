//! Codes of ClickHouse's errors, by the names that ClickHouse gives them (`src/Common/ErrorCodes.cpp` of its source).

pub(crate) const UNEXPECTED_END_OF_FILE: u32 = 3;
pub(crate) const ATTEMPT_TO_READ_AFTER_EOF: u32 = 32;
pub(crate) const CANNOT_READ_ALL_DATA: u32 = 33;
pub(crate) const CHECKSUM_DOESNT_MATCH: u32 = 40;
pub(crate) const UNKNOWN_FUNCTION: u32 = 46;
/// A column or another name that the server does not know.
pub(crate) const UNKNOWN_IDENTIFIER: u32 = 47;
pub(crate) const TABLE_ALREADY_EXISTS: u32 = 57;
pub(crate) const UNKNOWN_TABLE: u32 = 60;
/// Also the answer to a statement that the server's release does not have.
pub(crate) const SYNTAX_ERROR: u32 = 62;
pub(crate) const CANNOT_READ_FROM_FILE_DESCRIPTOR: u32 = 74;
/// Also the answer of a server whose disk is full.
pub(crate) const CANNOT_WRITE_TO_FILE_DESCRIPTOR: u32 = 75;
pub(crate) const CANNOT_OPEN_FILE: u32 = 76;
pub(crate) const UNKNOWN_DATABASE: u32 = 81;
pub(crate) const CANNOT_TRUNCATE_FILE: u32 = 88;
pub(crate) const CANNOT_READ_FROM_SOCKET: u32 = 95;
pub(crate) const CANNOT_WRITE_TO_SOCKET: u32 = 96;
pub(crate) const UNKNOWN_PACKET_FROM_CLIENT: u32 = 99;
pub(crate) const UNKNOWN_PACKET_FROM_SERVER: u32 = 100;
pub(crate) const UNEXPECTED_PACKET_FROM_CLIENT: u32 = 101;
pub(crate) const UNEXPECTED_PACKET_FROM_SERVER: u32 = 102;
pub(crate) const FILE_DOESNT_EXIST: u32 = 107;
pub(crate) const UNKNOWN_SETTING: u32 = 115;
pub(crate) const INCORRECT_DATA: u32 = 117;
pub(crate) const TIMEOUT_EXCEEDED: u32 = 159;
/// The account may only read, or may not change a setting.
pub(crate) const READONLY: u32 = 164;
pub(crate) const UNKNOWN_USER: u32 = 192;
pub(crate) const WRONG_PASSWORD: u32 = 193;
pub(crate) const REQUIRED_PASSWORD: u32 = 194;
pub(crate) const IP_ADDRESS_NOT_ALLOWED: u32 = 195;
pub(crate) const DNS_ERROR: u32 = 198;
pub(crate) const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
pub(crate) const NO_FREE_CONNECTION: u32 = 203;
pub(crate) const SOCKET_TIMEOUT: u32 = 209;
pub(crate) const NETWORK_ERROR: u32 = 210;
pub(crate) const TABLE_IS_DROPPED: u32 = 218;
pub(crate) const DATABASE_NOT_EMPTY: u32 = 219;
pub(crate) const NO_ZOOKEEPER: u32 = 225;
pub(crate) const NO_FILE_IN_DATA_PART: u32 = 226;
pub(crate) const ABORTED: u32 = 236;
pub(crate) const MEMORY_LIMIT_EXCEEDED: u32 = 241;
pub(crate) const TABLE_IS_READ_ONLY: u32 = 242;
pub(crate) const NOT_ENOUGH_SPACE: u32 = 243;
pub(crate) const CORRUPTED_DATA: u32 = 246;
/// Also the answer to an INSERT of more partitions than `max_partitions_per_insert_block` allows.
pub(crate) const TOO_MANY_PARTS: u32 = 252;
pub(crate) const CANNOT_DECOMPRESS: u32 = 271;
/// No replica of another cluster could be reached.
pub(crate) const ALL_CONNECTION_TRIES_FAILED: u32 = 279;
pub(crate) const TOO_FEW_LIVE_REPLICAS: u32 = 285;
pub(crate) const UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE: u32 = 286;
pub(crate) const DATABASE_ACCESS_DENIED: u32 = 291;
pub(crate) const UNKNOWN_STATUS_OF_INSERT: u32 = 319;
pub(crate) const BARRIER_TIMEOUT: u32 = 335;
pub(crate) const SUPPORT_IS_DISABLED: u32 = 344;
pub(crate) const TABLE_SIZE_EXCEEDS_MAX_DROP_SIZE_LIMIT: u32 = 359;
pub(crate) const QUERY_WAS_CANCELLED: u32 = 394;
pub(crate) const SETTING_CONSTRAINT_VIOLATION: u32 = 452;
pub(crate) const DEADLOCK_AVOIDED: u32 = 473;
pub(crate) const ACCESS_DENIED: u32 = 497;
pub(crate) const AUTHENTICATION_FAILED: u32 = 516;
pub(crate) const CANNOT_ASSIGN_ALTER: u32 = 517;
/// No server of another cluster told the structure of its table.
pub(crate) const NO_REMOTE_SHARD_AVAILABLE: u32 = 519;
pub(crate) const NAMED_COLLECTION_DOESNT_EXIST: u32 = 669;
/// An error of the server's own ZooKeeper, also of a path that does not exist.
pub(crate) const KEEPER_EXCEPTION: u32 = 999;

#[cfg(any(test, feature = "doubles"))]
pub(crate) use answers_of_the_double::*;

/// Codes that the program does not look for. The double answers with them, as a server does.
#[cfg(any(test, feature = "doubles"))]
mod answers_of_the_double {
    pub(crate) const CANNOT_PARSE_TEXT: u32 = 6;
    pub(crate) const NUMBER_OF_COLUMNS_DOESNT_MATCH: u32 = 20;
    pub(crate) const BAD_ARGUMENTS: u32 = 36;
    pub(crate) const NUMBER_OF_ARGUMENTS_DOESNT_MATCH: u32 = 42;
    pub(crate) const ILLEGAL_TYPE_OF_ARGUMENT: u32 = 43;
    pub(crate) const NOT_IMPLEMENTED: u32 = 48;
    pub(crate) const INCOMPATIBLE_COLUMNS: u32 = 122;
    pub(crate) const NO_ELEMENTS_IN_CONFIG: u32 = 139;
    pub(crate) const ILLEGAL_DIVISION: u32 = 153;
    pub(crate) const QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING: u32 = 216;
    pub(crate) const REPLICA_IS_ALREADY_EXIST: u32 = 253;
    pub(crate) const PARTITION_DOESNT_EXIST: u32 = 257;
    pub(crate) const FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: u32 = 395;
}
