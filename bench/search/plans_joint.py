"""The tables in which the family of the model is itself a setting, and those of other sets and kernels."""

from __future__ import annotations

from typing import Any

from plans import (
    Plan,
    Values,
    built_in,
    chain,
    fashion,
    network,
    powers,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import f_regression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, SVR, NuSVR
from sklearn.tree import DecisionTreeClassifier
from table import number, option


def digits_families() -> Plan:
    """Seven families of classifiers behind a scaler and a reducer."""

    def model(values: Values) -> Any:
        match values["family"]:
            case "svm":
                return SVC(C=values["svm.cost"], gamma=values["svm.gamma"])
            case "forest":
                return RandomForestClassifier(
                    values["forest.trees"],
                    max_features=values["forest.columns"],
                    min_samples_leaf=values["forest.leaf"],
                    random_state=0,
                )
            case "neighbors":
                return KNeighborsClassifier(values["neighbors.count"], weights=values["neighbors.weights"])
            case "logistic":
                return LogisticRegression(C=values["logistic.cost"], max_iter=30)
            case "tree":
                return DecisionTreeClassifier(
                    max_depth=values["tree.depth"], min_samples_leaf=values["tree.leaf"], random_state=0
                )
            case "bayes":
                return GaussianNB(var_smoothing=values["bayes.smoothing"])
            case _:
                return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=values["lda.shrinkage"])

    def of(family: str) -> dict[str, tuple[str, ...]]:
        return {"family": (family,)}

    settings = (
        option("scaler", "none", "standard", "minmax"),
        option("reducer", "none", "pca", "select"),
        number("components", 4, 12, 32, when={"reducer": ("pca",)}),
        number("selected", 12, 32, when={"reducer": ("select",)}),
        option("family", "svm", "forest", "neighbors", "logistic", "tree", "bayes", "lda"),
        number("svm.cost", *powers(1e-2, 1e3, 6), when=of("svm")),
        number("svm.gamma", *powers(1e-5, 1, 6), when=of("svm")),
        number("forest.columns", 0.05, 0.1, 0.3, when=of("forest")),
        number("forest.leaf", 1, 3, 9, when=of("forest")),
        number("forest.trees", 5, 15, 45, when=of("forest")),
        number("neighbors.count", 1, 2, 3, 5, 8, 16, when=of("neighbors")),
        option("neighbors.weights", "uniform", "distance", when=of("neighbors")),
        number("logistic.cost", *powers(1e-4, 1e2, 7), when=of("logistic")),
        number("tree.depth", 3, 5, 8, 12, when=of("tree")),
        number("tree.leaf", 1, 3, 9, when=of("tree")),
        number("bayes.smoothing", *powers(1e-9, 1, 6), when=of("bayes")),
        number("lda.shrinkage", 0.0, 0.05, 0.2, 0.5, 0.9, when=of("lda")),
    )
    return Plan(
        "digits_families",
        built_in("digits", 600),
        "error",
        settings,
        lambda values: chain(values, model(values)),
        staged="forest.trees",
    )


def breast_cancer_families() -> Plan:
    """Six families that say probabilities, behind a scaler and a selector."""

    def model(values: Values) -> Any:
        match values["family"]:
            case "logistic":
                return LogisticRegression(C=values["logistic.cost"], max_iter=60)
            case "boosting":
                return GradientBoostingClassifier(
                    n_estimators=values["boosting.trees"],
                    learning_rate=values["boosting.rate"],
                    max_depth=values["boosting.depth"],
                    max_features=0.3,
                    random_state=0,
                )
            case "neighbors":
                return KNeighborsClassifier(
                    values["neighbors.count"], weights=values["neighbors.weights"], p=values["neighbors.power"]
                )
            case "bayes":
                return GaussianNB(var_smoothing=values["bayes.smoothing"])
            case "quadratic":
                return QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=values["quadratic.shrinkage"])
            case _:
                return MLPClassifier(
                    (values["network.width"],),
                    alpha=values["network.decay"],
                    learning_rate_init=values["network.rate"],
                    max_iter=15,
                    batch_size=32,
                    random_state=0,
                )

    def of(family: str) -> dict[str, tuple[str, ...]]:
        return {"family": (family,)}

    settings = (
        option("scaler", "standard", "minmax", "robust"),
        option("reducer", "none", "pca", "select"),
        number("components", 3, 8, 16, when={"reducer": ("pca",)}),
        number("selected", 3, 8, 16, when={"reducer": ("select",)}),
        option("family", "logistic", "boosting", "neighbors", "bayes", "quadratic", "network"),
        number("logistic.cost", *powers(1e-3, 1e3, 9), when=of("logistic")),
        number("boosting.rate", 0.03, 0.1, 0.3, 1.0, when=of("boosting")),
        number("boosting.depth", 1, 2, 4, when=of("boosting")),
        number("boosting.trees", 10, 20, 40, 80, when=of("boosting")),
        number("neighbors.count", 1, 3, 6, 12, 24, 48, when=of("neighbors")),
        option("neighbors.weights", "uniform", "distance", when=of("neighbors")),
        number("neighbors.power", 1, 2, when=of("neighbors")),
        number("bayes.smoothing", *powers(1e-9, 1, 6), when=of("bayes")),
        number("quadratic.shrinkage", 0.0, 0.01, 0.05, 0.2, 0.6, when=of("quadratic")),
        number("network.width", 4, 32, when=of("network")),
        number("network.decay", 1e-4, 1e-2, 1.0, when=of("network")),
        number("network.rate", 1e-3, 1e-2, 1e-1, when=of("network")),
    )
    return Plan(
        "breast_cancer_families",
        built_in("breast_cancer"),
        "log_loss",
        settings,
        lambda values: chain(values, model(values)),
        staged="boosting.trees",
    )


def diabetes_families() -> Plan:
    """Seven families of regressors, with or without products of columns."""

    def model(values: Values) -> Any:
        match values["family"]:
            case "ridge":
                return Ridge(values["ridge.strength"])
            case "lasso":
                return Lasso(values["lasso.strength"])
            case "net":
                return ElasticNet(values["net.strength"], l1_ratio=values["net.ratio"])
            case "support":
                return SVR(C=values["support.cost"], epsilon=values["support.slack"], gamma=values["support.gamma"])
            case "neighbors":
                return KNeighborsRegressor(
                    values["neighbors.count"], weights=values["neighbors.weights"], p=values["neighbors.power"]
                )
            case _:
                return RandomForestRegressor(
                    values["forest.trees"],
                    min_samples_leaf=values["forest.leaf"],
                    max_features=values["forest.columns"],
                    random_state=0,
                )

    def of(family: str) -> dict[str, tuple[str, ...]]:
        return {"family": (family,)}

    settings = (
        option("scaler", "standard", "minmax", "robust"),
        option("features", "plain", "products"),
        option("reducer", "none", "select"),
        number("selected", 3, 6, 8, when={"reducer": ("select",)}),
        option("family", "ridge", "lasso", "net", "support", "neighbors", "forest"),
        number("ridge.strength", *powers(1e-2, 1e4, 10), when=of("ridge")),
        number("lasso.strength", *powers(1e-2, 1e2, 8), when=of("lasso")),
        number("net.strength", *powers(1e-3, 1e1, 5), when=of("net")),
        number("net.ratio", 0.1, 0.5, 0.9, when=of("net")),
        number("support.cost", *powers(1e-1, 1e4, 5), when=of("support")),
        number("support.slack", 1.0, 8.0, 32.0, when=of("support")),
        number("support.gamma", *powers(1e-4, 1, 4), when=of("support")),
        number("neighbors.count", 2, 4, 8, 16, 32, 64, when=of("neighbors")),
        option("neighbors.weights", "uniform", "distance", when=of("neighbors")),
        number("neighbors.power", 1, 2, when=of("neighbors")),
        number("forest.leaf", 1, 4, 16, when=of("forest")),
        number("forest.columns", 0.1, 0.3, 1.0, when=of("forest")),
        number("forest.trees", 8, 24, when=of("forest")),
    )
    return Plan(
        "diabetes_families",
        built_in("diabetes"),
        "rmse",
        settings,
        lambda values: chain(values, model(values), f_regression),
        staged="forest.trees",
    )


def diabetes_kernels() -> Plan:
    """Three kernel machines, each with three kernels."""

    def make(values: Values) -> Any:
        shape = {"kernel": values["kernel"], "gamma": values["gamma"]}
        shape |= {"degree": values["degree"], "coef0": 1.0} if "degree" in values else {}
        match values["family"]:
            case "ridge":
                return chain(values, KernelRidge(alpha=1 / values["cost"], **shape))
            case "epsilon":
                return chain(values, SVR(C=values["cost"], epsilon=values["slack"], max_iter=20000, **shape))
            case _:
                return chain(values, NuSVR(C=values["cost"], nu=values["part"], max_iter=20000, **shape))

    settings = (
        option("scaler", "standard", "minmax"),
        option("family", "ridge", "epsilon", "nu"),
        option("kernel", "rbf", "poly", "sigmoid"),
        number("gamma", *powers(1e-4, 1, 7)),
        number("degree", 2, 3, when={"kernel": ("poly",)}),
        number("cost", *powers(1e-2, 1e3, 6)),
        number("slack", 1.0, 8.0, 32.0, when={"family": ("epsilon",)}),
        number("part", 0.2, 0.5, 0.8, when={"family": ("nu",)}),
    )
    return Plan("diabetes_kernels", built_in("diabetes"), "rmse", settings, make)


def fashion_sgd() -> Plan:
    """Linear models by stochastic descent: losses, penalties and schedules."""

    def make(values: Values) -> Any:
        model = SGDClassifier(
            loss=values["loss"],
            penalty=values["penalty"],
            l1_ratio=values.get("ratio", 0.15),
            alpha=values["decay"],
            learning_rate=values["schedule"],
            eta0=values.get("rate", 0.01),
            power_t=values.get("power", 0.5),
            max_iter=12,
            tol=None,
            random_state=0,
        )
        return chain({"scaler": "standard"}, model)

    settings = (
        option("loss", "hinge", "log_loss", "modified_huber"),
        option("penalty", "l2", "l1", "elasticnet"),
        number("ratio", 0.1, 0.4, 0.8, when={"penalty": ("elasticnet",)}),
        number("decay", *powers(1e-5, 1e-1, 5)),
        option("schedule", "optimal", "constant", "invscaling", "adaptive"),
        number("rate", *powers(1e-4, 1, 5), when={"schedule": ("constant", "invscaling", "adaptive")}),
        number("power", 0.1, 0.3, 0.6, when={"schedule": ("invscaling",)}),
    )
    return Plan("fashion_sgd", fashion, "error", settings, make)


def fashion_mlp() -> Plan:
    """Networks of one or two layers under two optimisers."""
    settings = (
        option("solver", "adam", "sgd"),
        option("depth", "one", "two"),
        number("width", 8, 24, 72),
        number("second", 8, 24, when={"depth": ("two",)}),
        number("decay", *powers(1e-4, 3, 4)),
        number("rate", *powers(3e-4, 0.3, 6)),
        number("momentum", 0.0, 0.6, 0.9, when={"solver": ("sgd",)}),
    )
    return Plan("fashion_mlp", fashion, "log_loss", settings, lambda values: network({**values, "steps": 15}))
