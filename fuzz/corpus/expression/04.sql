/* (a */ arrayMap(x -> x + 1, [1, 2])[1] // b
