"""How many numbers an estimator has learned."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from ecolyzer_otel.instrumentor import ModelFacts

__all__ = ["Learned", "booster_facts"]

#: Learned attributes that describe the data, the search or the course of the training, not the model.
_NOT_PARAMETERS: Final = frozenset(
    {
        "classes_", "categories_", "feature_names_in_", "n_features_in_", "n_features_", "n_outputs_", "n_classes_",
        "n_categories_", "n_bins_", "n_support_", "n_iter_", "n_layers_", "n_samples_seen_", "feature_importances_",
        "oob_score_", "oob_decision_function_", "oob_prediction_", "labels_", "row_labels_", "column_labels_",
        "transduction_", "labeled_iter_", "cv_results_", "best_index_", "best_score_", "best_estimator_params_",
        "refit_time_", "loss_", "best_loss_", "loss_curve_", "validation_score_", "validation_scores_",
        "train_score_", "scores_", "pvalues_", "inertia_", "t_", "estimators_samples_", "estimators_features_",
        "estimator_errors_", "explained_variance_ratio_", "core_sample_indices_", "cluster_centers_indices_",
        "component_indices_", "affinity_matrix_", "dissimilarity_matrix_", "negative_outlier_factor_", "children_",
        "probabilities_", "ordering_", "core_distances_", "reachability_", "predecessor_", "cluster_hierarchy_",
        "class_weight_", "class_count_", "feature_all_", "Cs_", "C_", "l1_ratios_", "l1_ratio_", "alphas_",
        "cv_alphas_", "criterion_", "coefs_paths_", "coef_path_", "mse_path_", "cv_values_", "singular_",
        "X_offset_", "X_scale_", "x_scores_", "y_scores_", "h_samples_", "mean_prior_", "covariance_prior_",
        "ranking_", "raw_location_", "raw_covariance_", "dist_",
    }
)  # fmt: skip
#: Attributes that repeat, or state of the training data, what another attribute holds, where that exists.
_REPEATED_BY: Final = {
    "var_": ("scale_", "components_"),
    "max_abs_": ("scale_",),
    "data_min_": ("min_",),
    "data_max_": ("min_",),
    "data_range_": ("min_",),
    "precision_": ("covariance_",),
    "precisions_": ("covariances_",),
    "precisions_cholesky_": ("covariances_",),
    "singular_values_": ("components_",),
    "exp_dirichlet_component_": ("components_",),
    "feature_count_": ("feature_log_prob_",),
    "category_count_": ("feature_log_prob_",),
    "support_": ("support_vectors_",),
    "offset_": ("intercept_",),
    "whitening_": ("components_",),
    "mixing_": ("components_",),
    "embedding_": ("kernel_pca_",),
    "y_train_": ("alpha_",),
}
#: Single numbers that a prediction uses; others are settings and measures.
_SCALARS: Final = frozenset(("intercept_", "offset_", "a_", "b_"))
#: Learned, against scikit-learn's rule for names: the stored samples of neighbours' methods, idf before 1.4.
_PRIVATE: Final = ("_fit_X", "_y", "_probA", "_probB", "_idf_diag")
_NESTED: Final = (
    "steps", "transformers_", "transformer_list", "estimators_", "estimator_", "best_estimator_", "estimator",
    "calibrated_classifiers_", "final_estimator_", "regressor_", "transformer_", "init_", "base_estimator_",
    "_predictors", "calibrators", "imputation_sequence_", "initial_imputer_", "_tfidf", "_scaler", "kernel_pca_",
    "nbrs_",
)  # fmt: skip
_FITTED: Final = ("estimators_", "estimator_", "best_estimator_", "calibrated_classifiers_")
#: A booster's scikit-learn wrapper counts as the booster.
_BOOSTERS: Final = ("xgboost", "lightgbm")


def booster_facts(estimator: Any) -> ModelFacts | None:
    """Facts of a wrapper of XGBoost or LightGBM, or of a class that inherits from one; None for anything else."""
    for cls in type(estimator).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in _BOOSTERS:
            facts = ModelFacts(type(estimator).__name__, framework=root)
            with contextlib.suppress(Exception):  # not fitted: it has no booster yet
                facts = import_module(f"ecolyzer_{root}").describe(estimator)
            return facts
    return None


class Learned:
    """Learned numbers of a fitted estimator, its nested ones included, each once.

    Linear models: coefficients and intercepts. Trees, forests and boosters: splits and leaves, one each. Others:
    elements of the arrays that ``fit`` stored in attributes whose names end in ``_`` (scikit-learn's rule), without
    those that repeat others (``var_`` beside ``scale_``) or describe the training (counts, scores).
    Support vectors and the stored samples of neighbours' methods are learned, too.

    Attributes:
        parameters: how many; None when nothing was learned.
        dtype: the one that holds most.
        device: where a booster among them runs, else the CPU.
    """

    def __init__(self, estimator: Any) -> None:
        self._sizes: Counter[str] = Counter()
        self._seen: set[int] = set()
        self.device = "cpu"
        self._visit(estimator)
        self.parameters = self._sizes.total() or None
        self.dtype = self._sizes.most_common(1)[0][0] if self._sizes.total() else None

    def _visit(self, thing: Any) -> None:
        if id(thing) in self._seen or isinstance(thing, (str, bytes, int, float, type(None))):
            return
        self._seen.add(id(thing))
        if isinstance(thing, (list, tuple)):
            for item in thing:
                self._visit(item)
        elif getattr(getattr(thing, "dtype", None), "hasobject", False) and hasattr(thing, "ravel"):
            for item in thing.ravel():  # an array of estimators (gradient boosting)
                self._visit(item)
        elif hasattr(getattr(thing, "nodes", None), "size"):  # histogram gradient boosting
            self._sizes["float64"] += int(thing.nodes.size)
        elif hasattr(thing, "__dict__") and (_is_model(thing) or hasattr(thing, "calibrators")):
            self._visit_estimator(thing, dict(vars(thing)))

    def _visit_estimator(self, estimator: Any, attributes: dict[str, Any]) -> None:
        facts = booster_facts(estimator)
        if facts is not None:
            self._sizes[facts.dtype or ""] += facts.parameters or 0
            self.device = facts.device if facts.device != "cpu" else self.device
            return
        tree: Any = attributes.get("tree_")
        if hasattr(tree, "node_count"):
            self._sizes["float64"] += int(tree.node_count)
            return
        if hasattr(tree, "get_arrays"):  # the samples of a kernel density
            self._sizes["float64"] += int(tree.data.size)
        for array in _arrays(attributes):
            if id(array) not in self._seen:
                self._seen.add(id(array))
                self._sizes[str(array.dtype)] += int(array.nnz if hasattr(array, "nnz") else array.size)
        fitted = any(name in attributes for name in _FITTED)
        for name, value in attributes.items():
            held = list(value.values()) if isinstance(value, dict) else value
            first = held[0] if isinstance(held, (list, tuple)) and held else held
            if (name in _NESTED and not (name == "estimator" and fitted)) or (
                name[-1:] == "_" and _is_model(first)
            ):
                self._visit(held)


def _is_model(thing: Any) -> bool:
    return hasattr(thing, "get_params") or type(thing).__module__.partition(".")[0] in _BOOSTERS


def _arrays(attributes: dict[str, Any]) -> Iterator[Any]:
    """Yields the arrays of numbers that an estimator, without nested ones, has learned."""
    for name, value in attributes.items():
        learned = name.endswith("_") and not name.startswith("_") and name not in _NOT_PARAMETERS
        if not (learned or name in _PRIVATE) or name in _NESTED:
            continue
        if any(other in attributes for other in _REPEATED_BY.get(name, ())):
            continue
        several = isinstance(value, (list, tuple)) or getattr(getattr(value, "dtype", None), "hasobject", False)
        if several and getattr(value, "ndim", 1) == 1 and not (len(value) and hasattr(value[0], "dtype")):
            continue  # objects of a class of the service, maybe millions
        for array in value if several and getattr(value, "ndim", 1) == 1 else (value,):
            shape = getattr(array, "shape", None)
            if getattr(getattr(array, "dtype", None), "kind", "") in ("f", "i", "u") and (
                shape or (shape == () and name in _SCALARS)
            ):
                yield array
