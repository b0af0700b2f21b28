"""How many parameters a model has, and how many of them one device of the model axis holds."""

from vishwamai.contract.config import ModelSection, TrainingConfig


def layer_matrices(model: ModelSection) -> int:
    """Elements of one layer's weight matrices: q, k, v, o, and the feed-forward's two, or three when it is gated."""
    attention = 2 * model.hidden_dim * model.head_dim * (model.num_heads + model.kv_heads)
    return attention + (3 if model.gated else 2) * model.hidden_dim * model.mlp_dim


def layer_vectors(model: ModelSection) -> int:
    """Elements of one layer's norms and biases."""
    norms = (4 if model.post_norms else 2) * model.hidden_dim + (2 * model.head_dim if model.qk_norm else 0)
    biases = (model.num_heads + 2 * model.kv_heads) * model.head_dim if model.qkv_bias else 0
    return norms + biases


def tables(model: ModelSection) -> int:
    """Elements of the embedding table, and of the output head when it is untied."""
    return model.vocab_size * model.hidden_dim * (1 if model.tie_embeddings else 2)


def vocabulary_parts(model: ModelSection, axis: int) -> int:
    """Parts into which a model axis splits the vocabulary: all, or one when the axis does not divide it."""
    return axis if model.vocab_size % axis == 0 else 1


def held(model: ModelSection, axis: int) -> float:
    """Parameters of one device of a model axis, before weights are split any further."""
    layers = model.num_layers * (layer_matrices(model) / axis + layer_vectors(model))
    return layers + tables(model) / vocabulary_parts(model, axis) + model.hidden_dim


def parameter_count(config: TrainingConfig) -> int:
    """Trainable parameters: tables, layers, and one norm at the end."""
    model = config.model
    layer = layer_matrices(model) + layer_vectors(model)
    return tables(model) + model.num_layers * layer + model.hidden_dim
