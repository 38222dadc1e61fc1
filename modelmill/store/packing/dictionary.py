"""What ONNX files of ours are full of: the words from which zlib copies when it packs a head.

They are part of the format: other words are another version of it.
"""

WORDS = b"".join(
    [
        *(b"nodes_featureids", b"nodes_splits", b"nodes_modes", b"nodes_truenodeids", b"nodes_trueleafs"),
        *(b"nodes_falsenodeids", b"nodes_falseleafs", b"leaf_targetids", b"leaf_weights", b"tree_roots", b"n_targets"),
        *(b"aggregate_function", b"post_transform", b'"\x0cTreeEnsemble', b"\nai.onnx.ml", b"\x0bStringNormalizer"),
        *(b"cats_strings", b'"\rOneHotEncoder', b"keys_strings", b"values_int64s", b'"\x0cLabelEncoder', b"\x08\x07"),
        *(b'"\x0bMatMulNBits', b":\rcom.microsoft", b"accuracy_level", b"block_size", b"bits\x18\x04\xa0\x01\x02"),
        *(
            b'"\x06GlobalAveragePool',
            b'"\x03Add',
            b'"\x03Sub',
            b'"\x03Div',
            b'"\x05Where',
            b'"\x05IsNaN',
            b'"\x06Concat',
        ),
        *(b'"\x06MatMul', b'"\x09Transpose*\x0b\n\x04perm', b'"\x03Mod', b'"\x05Range', b'"\x07Sigmoid', b'"\x04Tanh'),
        *(
            b'"\x0eQuantizeLinear',
            b'"\x10DequantizeLinear',
            b'"\x06Gather',
            b'"\x04Cast*\t\n\x02to\x18\x06\xa0\x01\x02',
        ),
        b'"\x07MaxPool*\x12\n\tdilations@\x01@\x01\xa0\x01\x07*\x15\n\x0ckernel_shape@\x02@\x02\xa0\x01\x07',
        b"*\x11\n\x04pads@\x00@\x00@\x00@\x00\xa0\x01\x07*\x10\n\x07strides@\x02@\x02\xa0\x01\x07:\x00\n",
        b'"\x04Conv*\x12\n\tdilations@\x01@\x01\xa0\x01\x07*\x0c\n\x05group\x18\x01\xa0\x01\x02',
        b"*\x15\n\x0ckernel_shape@\x03@\x03\xa0\x01\x07*\x11\n\x04pads@\x01@\x01@\x01@\x01\xa0\x01\x07",
        b"*\x10\n\x07strides@\x01@\x01\xa0\x01\x07:\x00\n",
        b'\x08\n\x12\tmodelmill:\n\x1d\n\x05image\x12\x01r"\x04Cast*\t\n\x02to\x18\x01\xa0\x01\x02:\x00\n\x11\n\x01r\n',
        b'\x01a\x12\x01s"\x07Reshape:\x00\n\x10\n\x01s\n\x01b\x12\x01t"\x03Mul:\x00\n\x1e\n\x01t\x12\x01u"\x07Flatten',
        b'*\x0b\n\x04axis\x18\x01\xa0\x01\x02:\x00\n#\n\x01u\n\x01q\n\x01c\x12\x01v"\x04Gemm*\r\n\x06transB\x18\x01',
        b'\xa0\x01\x02:\x00\n\x0e\n\x01v\x12\x01w"\x04Relu:\x00\n',
        b'3\n\x01z\x12\rprobabilities"\x07Softmax*\x14\n\x04axis\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xa0\x01\x02',
        b':\x00\n>\n\rprobabilities\x12\x05label"\x06ArgMax*\x0b\n\x04axis\x18\x01\xa0\x01\x02*\x0f\n\x08keepdims\x18',
        b"\x00\xa0\x01\x02:\x00\x12\x05model*)\x08\x04\x10\x07B\x01aJ \xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00",
        b"\x00\x00\x00\x00*\x11\x08\x01\x08\x01\x08\x01\x10\x01B\x01bJ\x04\x81\x80\x80;*\x08\x10\x01B\x01cJ",
        b"Z\x1f\n\x05image\x12\x16\n\x14\x08\x02\x12\x10\n\x06\x12\x04rows\n\x02\x08\x1c\n\x02\x08\x1cb\x17\n\x05label",
        b"\x12\x0e\n\x0c\x08\x07\x12\x08\n\x06\x12\x04rowsb#\n\x05value\n\rprobabilities\x12\x12\n\x10\x08\x01\x12\x0c\n",
        b"\x06\x12\x04rows\n\x02\x08\nB\x04\n\x00\x10\x15",
    ]
)
"""zlib looks here before it looks at what it packs; the commonest come last."""
