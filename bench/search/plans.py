"""What the tables are made of: real sets, families of models, and the grid of settings of each.

A plan's settings are the declaration of the space; `make` turns the values of a cell into an estimator. Where `staged`
names the number of trees, one fit of the most trees gives the cells of fewer: the first trees of an ensemble are those
that a smaller one would have grown.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from table import Setting, number, option

FASHION = Path("/usr/share/datasets/fashion-mnist")

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """A table to be made."""

    name: str
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    loss: str
    """`log_loss` (probabilities clipped at 1e-4), `error` or `rmse`."""
    settings: tuple[Setting, ...]
    make: Callable[[Values], Any]
    folds: int = 3
    staged: str = ""
    """The setting that counts trees, if there is one."""


def built_in(name: str, rows: int | None = None) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """A set that comes with scikit-learn, the first so many rows of a fixed shuffle."""

    def read() -> tuple[np.ndarray, np.ndarray]:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(y))[:rows]
        return x[order], y[order]

    return read


def noisy_iris() -> tuple[np.ndarray, np.ndarray]:
    """Iris with twelve columns more, each one of its own in another order of rows."""
    x, y = built_in("iris")()
    draw = np.random.default_rng(1)
    return np.hstack([x, *(draw.permutation(x) for _ in range(3))]), y


def fashion() -> tuple[np.ndarray, np.ndarray]:
    """The first 600 test images of Fashion-MNIST, as means of 4 x 4 pixels."""
    with gzip.open(FASHION / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:600]
    with gzip.open(FASHION / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:600]
    return images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49) / 255, labels.astype(int)


SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}


def chain(values: Values, model: Any, score: Any = f_classif) -> Any:
    """A pipeline of the scaler, the reducer and the selector that the values name, before a model."""
    steps: list[Any] = []
    if values.get("scaler", "none") != "none":
        steps.append(SCALERS[values["scaler"]]())
    if values.get("reducer") == "pca":
        steps.append(PCA(values["components"], random_state=0))
    if values.get("reducer") == "select":
        steps.append(SelectKBest(score, k=values["selected"]))
    if values.get("features") == "products":
        steps.append(PolynomialFeatures(2, interaction_only=True, include_bias=False))
    return make_pipeline(*steps, model)


def powers(low: float, high: float, count: int) -> tuple[float, ...]:
    """Numbers at equal ratios, ends included."""
    return tuple(float(f"{value:.4g}") for value in np.geomspace(low, high, count))


def fashion_svm() -> Plan:
    """Support vectors with four kernels."""

    def make(values: Values) -> Any:
        names = {"cost": "C", "gamma": "gamma", "degree": "degree", "offset": "coef0", "kernel": "kernel"}
        return chain(values, SVC(**{names[key]: value for key, value in values.items() if key in names}))

    curved = {"kernel": ("rbf", "poly", "sigmoid")}
    settings = (
        option("scaler", "none", "standard"),
        option("kernel", "linear", "rbf", "poly", "sigmoid"),
        number("cost", *powers(1e-3, 1e3, 10)),
        number("gamma", *powers(1e-5, 1, 9), when=curved),
        number("degree", 2, 3, 4, when={"kernel": ("poly",)}),
        number("offset", 0.0, 0.3, 1.0, when={"kernel": ("poly", "sigmoid")}),
    )
    return Plan("fashion_svm", fashion, "error", settings, make)


def breast_cancer_forest() -> Plan:
    """Random forests and extra trees."""

    def make(values: Values) -> Any:
        build = RandomForestClassifier if values["family"] == "forest" else ExtraTreesClassifier
        return build(
            values["trees"],
            max_depth=values["depth"],
            min_samples_leaf=values["leaf"],
            max_features=values["columns"],
            bootstrap=values["bootstrap"] == "yes",
            max_samples=values.get("rows"),
            random_state=0,
        )

    settings = (
        option("family", "forest", "extra"),
        number("depth", 2, 4, 8, 16),
        number("leaf", 1, 3, 9),
        number("columns", 0.1, 0.2, 0.4, 0.8),
        option("bootstrap", "no", "yes"),
        number("rows", 0.3, 0.6, 1.0, when={"bootstrap": ("yes",)}),
        number("trees", 4, 8, 16, 32, 64),
    )
    return Plan("breast_cancer_forest", built_in("breast_cancer"), "log_loss", settings, make, staged="trees")


def diabetes_boosting() -> Plan:
    """Boosted regression trees under three losses."""

    def make(values: Values) -> Any:
        return GradientBoostingRegressor(
            loss=values["loss"],
            alpha=values.get("quantile", 0.9),
            learning_rate=values["rate"],
            max_depth=values["depth"],
            subsample=values["rows"],
            n_estimators=values["trees"],
            random_state=0,
        )

    settings = (
        option("loss", "squared_error", "absolute_error", "huber"),
        number("quantile", 0.7, 0.8, 0.9, when={"loss": ("huber",)}),
        number("rate", 0.02, 0.05, 0.1, 0.2, 0.5),
        number("depth", 1, 2, 4),
        number("rows", 0.3, 0.6, 1.0),
        number("trees", 5, 10, 20, 40, 80),
    )
    return Plan("diabetes_boosting", built_in("diabetes"), "rmse", settings, make, staged="trees")


def network(values: Values) -> Any:
    """A network on standardised columns."""
    layers = (values["width"], *([values["second"]] if "second" in values else []))
    solver = values["solver"]
    return make_pipeline(
        StandardScaler(),
        MLPClassifier(
            layers,
            activation=values.get("activation", "relu"),
            solver=solver,
            alpha=values["decay"],
            learning_rate_init=values.get("rate", 0.001),
            momentum=values.get("momentum", 0.9),
            batch_size=values.get("batch", 32),
            max_iter=values.get("steps", 25),
            n_iter_no_change=1000,
            random_state=0,
        ),
    )


def wine_mlp() -> Plan:
    """Small networks under three optimisers."""
    first = {"solver": ("adam", "sgd")}
    settings = (
        option("solver", "adam", "sgd", "lbfgs"),
        option("activation", "relu", "tanh", "logistic"),
        number("width", 4, 16, 64),
        number("decay", *powers(1e-5, 1, 4)),
        number("rate", *powers(1e-4, 0.3, 6), when=first),
        number("batch", 16, 64, when={"solver": ("adam",)}),
        number("momentum", 0.0, 0.5, 0.9, when={"solver": ("sgd",)}),
        number("steps", 3, 6, 12, 25, 50, when={"solver": ("lbfgs",)}),
    )
    return Plan("wine_mlp", built_in("wine"), "log_loss", settings, network)


def digits_neighbors() -> Plan:
    """Nearest neighbours after a scaler and a reducer."""

    def make(values: Values) -> Any:
        return chain(values, KNeighborsClassifier(values["neighbors"], weights=values["weights"], p=values["power"]))

    settings = (
        option("scaler", "none", "standard", "minmax"),
        option("reducer", "none", "pca", "select"),
        number("components", 2, 4, 8, 12, 16, 24, 32, when={"reducer": ("pca",)}),
        number("selected", 4, 8, 16, 32, 48, when={"reducer": ("select",)}),
        number("neighbors", 1, 2, 3, 5, 8, 12, 20, 32),
        option("weights", "uniform", "distance"),
        number("power", 1, 2),
    )
    return Plan("digits_neighbors", built_in("digits", 600), "error", settings, make)


def breast_cancer_logistic() -> Plan:
    """Logistic regression under four penalties, after a scaler and a selector."""

    def make(values: Values) -> Any:
        ratio = {"l1": 1.0, "both": values.get("ratio")}.get(values["penalty"], 0.0)
        solver = {"l1": "liblinear", "both": "saga"}.get(values["penalty"], "lbfgs")
        model = LogisticRegression(
            C=values.get("cost", np.inf),
            l1_ratio=ratio,
            solver=solver,
            class_weight=None if values["weights"] == "none" else "balanced",
            max_iter=60,
            random_state=0,
        )
        return chain(values, model)

    settings = (
        option("scaler", "standard", "minmax", "robust"),
        option("reducer", "none", "select"),
        number("selected", 3, 8, 16, when={"reducer": ("select",)}),
        option("penalty", "none", "l1", "l2", "both"),
        number("cost", *powers(1e-3, 1e3, 10), when={"penalty": ("l1", "l2", "both")}),
        number("ratio", 0.1, 0.3, 0.5, 0.7, 0.9, when={"penalty": ("both",)}),
        option("weights", "none", "balanced"),
    )
    return Plan("breast_cancer_logistic", built_in("breast_cancer"), "log_loss", settings, make)


def iris_tree() -> Plan:
    """A decision tree among columns of noise."""

    def make(values: Values) -> Any:
        model = DecisionTreeClassifier(
            criterion=values["criterion"],
            splitter=values["splitter"],
            max_depth=values["depth"],
            min_samples_leaf=values["leaf"],
            ccp_alpha=values["cut"],
            random_state=0,
        )
        return chain(values, model)

    settings = (
        option("reducer", "none", "select", "pca"),
        number("selected", 1, 2, 4, 8, when={"reducer": ("select",)}),
        number("components", 2, 4, 8, when={"reducer": ("pca",)}),
        option("criterion", "gini", "entropy"),
        option("splitter", "best", "random"),
        number("depth", 1, 2, 3, 4, 6),
        number("leaf", 1, 2, 4, 8, 16),
        number("cut", 0.0, 0.01, 0.03),
    )
    return Plan("iris_tree", noisy_iris, "log_loss", settings, make, folds=5)


def wine_boosting() -> Plan:
    """AdaBoost and gradient boosting."""

    def make(values: Values) -> Any:
        if values["family"] == "ada":
            tree = DecisionTreeClassifier(
                max_depth=values["depth"], min_samples_leaf=values["leaf"], splitter=values["splitter"], random_state=0
            )
            return AdaBoostClassifier(tree, n_estimators=values["trees"], learning_rate=values["rate"], random_state=0)
        return GradientBoostingClassifier(
            learning_rate=values["rate"],
            max_depth=values["depth"],
            subsample=values["rows"],
            max_features=values["columns"],
            n_estimators=values["trees"],
            random_state=0,
        )

    ada, gradient = {"family": ("ada",)}, {"family": ("gradient",)}
    settings = (
        option("family", "ada", "gradient"),
        number("rate", *powers(0.01, 2, 7)),
        number("depth", 1, 2, 3),
        number("leaf", 1, 3, 9, when=ada),
        option("splitter", "best", "random", when=ada),
        number("rows", 0.3, 0.6, 1.0, when=gradient),
        number("columns", 0.1, 0.3, 1.0, when=gradient),
        number("trees", 3, 6, 12, 25, 50),
    )
    return Plan("wine_boosting", built_in("wine"), "log_loss", settings, make, staged="trees")
