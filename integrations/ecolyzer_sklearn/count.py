"""How many numbers an estimator has learned."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

__all__ = ["count_parameters"]

#: Learned attributes that describe the data or the search, not the model.
_NOT_PARAMETERS: Final = frozenset(
    {
        "classes_", "feature_names_in_", "n_features_in_", "n_features_", "n_outputs_", "n_classes_", "n_iter_",
        "feature_importances_", "oob_score_", "oob_decision_function_", "oob_prediction_", "labels_", "cv_results_",
        "best_index_", "best_score_", "refit_time_", "loss_curve_", "validation_scores_", "train_score_", "scores_",
        "estimators_samples_", "explained_variance_ratio_", "n_samples_seen_", "embedding_", "core_sample_indices_",
        "best_estimator_params_", "pvalues_", "inertia_", "loss_", "best_loss_", "t_", "n_layers_",
    }
)  # fmt: skip
_NESTED: Final = (
    "steps", "transformers_", "transformer_list", "estimators_", "estimator_", "best_estimator_", "estimator",
    "calibrated_classifiers_", "final_estimator_", "regressor_", "transformer_", "init_", "base_estimator_",
    "_predictors", "calibrators",
)  # fmt: skip


def count_parameters(estimator: Any) -> tuple[int | None, str | None]:
    """Learned numbers of a fitted estimator, its nested ones included, and the dtype that holds most.

    Linear models: coefficients and intercepts. Trees and forests: nodes. Others: elements of the arrays that
    ``fit`` left in attributes whose names end in ``_`` (scikit-learn's rule), and the stored samples of
    neighbours' methods. (None, None) when nothing was learned.
    """
    sizes: Counter[str] = Counter()
    _visit(estimator, sizes, set())
    total = sizes.total()
    return (total, sizes.most_common(1)[0][0]) if total else (None, None)


def _visit(thing: Any, sizes: Counter[str], seen: set[int]) -> None:
    if id(thing) in seen or isinstance(thing, (str, bytes, int, float, type(None))):
        return
    seen.add(id(thing))
    if isinstance(thing, (list, tuple)):
        for item in thing:
            _visit(item, sizes, seen)
        return
    if hasattr(thing, "dtype") and hasattr(thing, "size") and getattr(thing.dtype, "hasobject", False):
        for item in thing.ravel():  # an array of estimators (gradient boosting)
            _visit(item, sizes, seen)
        return
    if hasattr(thing, "nodes") and hasattr(thing.nodes, "size"):  # histogram gradient boosting
        sizes["float64"] += int(thing.nodes.size)
        return
    attributes = getattr(thing, "__dict__", None)
    if not isinstance(attributes, dict) or not (hasattr(thing, "get_params") or hasattr(thing, "calibrators")):
        return
    booster = _booster_nodes(thing)
    if booster is not None:
        sizes["float32"] += booster
        return
    tree = attributes.get("tree_")
    if tree is not None and hasattr(tree, "node_count"):
        sizes["float64"] += int(tree.node_count)
        return
    _own_arrays(attributes, sizes, seen)
    fitted = any(name in attributes for name in ("estimators_", "estimator_", "best_estimator_"))
    for name in _NESTED:
        if name in attributes and not (name == "estimator" and fitted):
            _visit(attributes[name], sizes, seen)


def _own_arrays(attributes: dict[str, Any], sizes: Counter[str], seen: set[int]) -> None:
    for name, value in attributes.items():
        learned = name.endswith("_") and not name.startswith("_") and name not in _NOT_PARAMETERS
        if not (learned or name == "_fit_X") or name in _NESTED:
            continue
        for array in value if isinstance(value, (list, tuple)) else (value,):
            dtype = getattr(array, "dtype", None)
            size = getattr(array, "nnz", None) or getattr(array, "size", None)
            if (
                dtype is not None
                and isinstance(size, int)
                and getattr(dtype, "kind", "") in "fiub"
                and id(array) not in seen
            ):
                seen.add(id(array))
                sizes[str(dtype)] += size


def _booster_nodes(model: Any) -> int | None:
    """Nodes of a fitted XGBoost or LightGBM model behind its scikit-learn interface; else None."""
    root = type(model).__module__.partition(".")[0]
    try:
        if root == "xgboost":
            from ecolyzer_xgboost.facts import count_nodes

            return count_nodes(model.get_booster())
        if root == "lightgbm":
            from ecolyzer_lightgbm.facts import count_nodes as count_leaves

            return count_leaves(model.booster_)
    except Exception:  # noqa: BLE001 - an unfitted one has no trees
        return None
    return None
