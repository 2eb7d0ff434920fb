"""How far accumulated gradients are from that of one large batch: while training (:mod:`.meter`), and over many
batches of one model (:mod:`.study`)."""
