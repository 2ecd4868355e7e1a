CREATE DATABASE web;
CREATE TABLE web.hits (day Date, id UInt64, url String) ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY (day, id);
INSERT INTO web.hits SELECT toDate('2018-01-01') + number % 180, number, concat('/page/', toString(number % 1000)) FROM numbers(1000000);
