CollapsingMergeTree(sign)
  ORDER BY tuple() -- end
