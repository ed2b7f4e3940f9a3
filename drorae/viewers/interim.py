"""Interim values until the explorer's stages are there."""
import base64, io
import numpy as np
from PIL import Image
from drorae.explorer.spectrum import band_edges
from drorae.viewers.values import _base64, _finite_list, finite_numbers
from drorae.explorer.answers import frame_answer

def webp(a):
    s = io.BytesIO(); Image.fromarray(a).save(s, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(s.getvalue()).decode()

def packed(a):
    a = np.asarray(a, np.float64); m = float(np.abs(a).max()) or 1.0
    s = m / 32767
    return {"scale": s, "data": _base64((a / s).round().astype("<i2"))}

def routes_value(r, key, name, example, size, model):
    return {"key": key, "name": name, "example": example, "width": r.original.shape[1], "height": r.original.shape[0],
      "rows": r.grid_size[0], "columns": r.grid_size[1], "layers": r.num_layers, "beta": r.beta, "seconds": r.seconds, "size": size, "model": model,
      "pictures": {"original": webp(r.original), **{n: webp(p) for n, p in r.pictures.items()}},
      "metrics": {n: finite_numbers(m) for n, m in r.metrics.items()},
      "weights": None if r.weights is None else packed(r.weights), "shares": None if r.shares is None else packed(r.shares),
      "cosines": None if r.cosines is None else packed(r.cosines), "texture": packed(r.texture), "cosine": r.cosine,
      "correlation": None if r.texture_correlation is None else _finite_list(r.texture_correlation), "divided": True, "components": _base64(r.components),
      "edges": band_edges().tolist(), "spectra": {n: e.tolist() for n, e in r.spectra.items()}, "energies": {n: e.tolist() for n, e in r.energies.items()},
      "notes": {"width": 600, "height": 400, "crop": [100, 0, 400], "enlarged": None, "flattened": False}}

def tiles_value(r):
    side = 80
    ims = [np.array(Image.fromarray(f.picture).resize((side, side), Image.LANCZOS)) for f in r.interventions.experts]
    return {"sprite": webp(np.concatenate(ims, 1)), "side": side, "psnr": [f.metrics["psnr"] for f in r.interventions.experts]}

def frames_value(r):
    d = r.interventions
    groups = {"strengths": d.strengths, "removed": d.removed, "alone": d.alone, "experts": d.experts}
    flat = [f for g in groups.values() for f in g]
    h, w, _ = flat[0].picture.shape
    cols = 8; rows = -(-len(flat) // cols)
    sheet = np.zeros((rows * h, cols * w, 3), np.uint8)
    for i, f in enumerate(flat):
        y, x = divmod(i, cols); sheet[y*h:(y+1)*h, x*w:(x+1)*w] = f.picture
    i = 0; out = {}
    for n, g in groups.items():
        out[n] = []
        for f in g:
            out[n].append({"index": i, **frame_answer(f)}); i += 1
    from drorae.explorer.spectrum import recovery
    lost = r.energies["rae"]; usual = d.strengths[d.betas.index(d.beta)].energies
    return {"beta": d.beta, "betas": list(d.betas), "sprite": webp(sheet), "columns": cols, "width": w, "height": h, "done": len(flat), "total": len(flat), **out,
            "layers": [_finite_list(1 - recovery(lost, f.energies - usual)) for f in d.removed]}


def similar_value(model, pictures, token):
    import torch
    from drorae.explorer.explore import open_picture
    from drorae.explorer.interventions import InterventionError
    from drorae.models.fusion import layer_norm
    maps = {}
    with torch.inference_mode():
        for key, picture in pictures.items():
            images = open_picture(picture, model)
            layers = model.encoder(images)
            found = {str(i): t for i, t in enumerate(layer_norm(torch.cat(tuple(layers)), model.encoder.norm_eps), 1)}
            found["z_base"] = model.fuse(layers, fusion=False).tokens[0]
            if model.fusion_module is not None:
                fused = model.fuse(layers, return_routing=True)
                if fused.routing is not None:
                    found |= {"z_fuse": fused.routing.fused[0], "z_final": fused.tokens[0]}
            maps[key] = (model.encoder.grid_of(images), found)
    first = next(iter(maps.values()))[1]
    count = len(first["z_base"])
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < count:
        raise InterventionError(f"There is no token {str(token)[:20]}; this photo has {count}, counted from 0.")
    return {"token": token, "maps": list(first), "photos": [
        {"key": key, "rows": grid[0], "columns": grid[1], "values": packed(np.stack([
            torch.cosine_similarity(first[n][token].float(), t.float(), dim=-1).cpu().numpy() for n, t in found.items()]))}
        for key, (grid, found) in maps.items()]}
