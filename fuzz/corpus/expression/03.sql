cityHash64(concat(s, '\x41\n'), toString(d)) -- why
 + 1